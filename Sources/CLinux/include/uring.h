#pragma once
// io_uring through liburing: its header is inline functions and bit fields that Swift's importer cannot see. Every wrapper
// returns >= 0 or -errno. A ring belongs to the thread that made it.
#include <stddef.h>
#include <stdint.h>

typedef struct hf_ring hf_ring;

// A ring of `entries`, with the cheapest flags that the kernel knows. -ENOSYS also for a kernel older than 5.11.
int hf_ring_create(unsigned entries, hf_ring **out);
// Nothing may be in flight.
void hf_ring_destroy(hf_ring *ring);
// These only queue: -EBUSY when `entries` are queued already.
int hf_ring_read(hf_ring *ring, int fd, void *to, uint32_t n, uint64_t at, uint64_t tag);
int hf_ring_watch(hf_ring *ring, int fd, uint64_t tag);
int hf_ring_unwatch(hf_ring *ring, uint64_t watched, uint64_t tag);
// Submits what is queued, then waits until `count` completions are there.
int hf_ring_submit_and_wait(hf_ring *ring, unsigned count);
// The next completion that is there: 1, or 0 for none.
int hf_ring_next(hf_ring *ring, uint64_t *tag, int32_t *result);
