// See CountAllocations.h. Loaded before libc, it takes the place of the allocation functions and passes each call on.

#define _GNU_SOURCE
#include "CountAllocations.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// What libc's own functions are called inside.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static struct allocation_counts *counts;
static __thread int is_telling;

static void count(uint64_t *what) { __atomic_fetch_add(what, 1, __ATOMIC_RELAXED); }

static void allocated(void) {
  if (!counts) return;
  count(&counts->allocations);
  if (is_telling || __atomic_load_n(&counts->stacks_wanted, __ATOMIC_RELAXED) == 0) return;
  is_telling = 1;
  __atomic_fetch_sub(&counts->stacks_wanted, 1, __ATOMIC_RELAXED);
  void *frames[48];
  int depth = backtrace(frames, 48);
  if (write(2, "allocation:\n", 12) == 12) backtrace_symbols_fd(frames + 1, depth - 1, 2);
  is_telling = 0;
}

void *malloc(size_t size) {
  allocated();
  return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
  allocated();
  return __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size) {
  if (counts) count(&counts->reallocations);
  return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
  allocated();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  allocated();
  return __libc_memalign(alignment, size);
}

void *valloc(size_t size) {
  allocated();
  return __libc_memalign((size_t)sysconf(_SC_PAGESIZE), size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
  allocated();
  if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
  void *result = __libc_memalign(alignment, size);
  if (!result) return ENOMEM;
  *memory = result;
  return 0;
}

void free(void *memory) {
  if (counts && memory) count(&counts->frees);
  __libc_free(memory);
}

void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
  if (counts) count(&counts->maps);
  return (void *)syscall(SYS_mmap, address, length, protection, flags, descriptor, offset);
}

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("HOLDFAST_ALLOCATIONS");
  if (!path) return;
  int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return;
  struct allocation_counts *mapped = MAP_FAILED;
  if (ftruncate(descriptor, sizeof *mapped) == 0) {
    mapped = mmap(NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  }
  close(descriptor);
  if (mapped == MAP_FAILED) return;
  // The first backtrace loads a library, which allocates.
  void *frame[1];
  backtrace(frame, 1);
  mapped->magic = COUNT_ALLOCATIONS_MAGIC;
  counts = mapped;
}
