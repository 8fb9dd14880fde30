// Counts what a process allocates, for LD_PRELOAD: the file that HOLDFAST_ALLOCATIONS names is mapped shared and holds one of
// these; whoever started the process reads it there at any time.

#ifndef COUNT_ALLOCATIONS_H
#define COUNT_ALLOCATIONS_H

#include <stdint.h>

#define COUNT_ALLOCATIONS_MAGIC 0x746e756f63637268ull

struct allocation_counts {
  uint64_t magic;
  /// malloc, calloc, aligned_alloc, posix_memalign, memalign, valloc.
  uint64_t allocations;
  uint64_t reallocations;
  uint64_t frees;
  /// mmap by the program; malloc's own are not seen.
  uint64_t maps;
  /// Written by the reader: so many allocations from now on tell their stacks on standard error.
  uint64_t stacks_wanted;
};

#endif
