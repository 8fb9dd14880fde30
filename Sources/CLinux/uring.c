#define _GNU_SOURCE 1
#include "include/uring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>

struct hf_ring {
  struct io_uring ring;
};

// Headers older than the kernel lack some of these; liburing 2.3 has them all.
static const unsigned hf_flags[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, // 6.1
    IORING_SETUP_COOP_TASKRUN,                               // 5.19
    0,
};

int hf_ring_create(unsigned entries, hf_ring **out) {
  hf_ring *r = malloc(sizeof *r);
  if (!r) return -ENOMEM;
  int result = -EINVAL;
  for (size_t i = 0; i < sizeof hf_flags / sizeof *hf_flags && result == -EINVAL; i++)
    result = io_uring_queue_init(entries, &r->ring, hf_flags[i]);
  if (result >= 0 && !(r->ring.features & IORING_FEAT_EXT_ARG)) {
    io_uring_queue_exit(&r->ring);
    result = -ENOSYS;
  }
  if (result < 0) {
    free(r);
    return result;
  }
  *out = r;
  return 0;
}

void hf_ring_destroy(hf_ring *r) {
  io_uring_queue_exit(&r->ring);
  free(r);
}

int hf_ring_read(hf_ring *r, int fd, void *to, uint32_t n, uint64_t at, uint64_t tag) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
  if (!sqe) return -EBUSY;
  io_uring_prep_read(sqe, fd, to, n, at);
  io_uring_sqe_set_data64(sqe, tag);
  return 0;
}

int hf_ring_watch(hf_ring *r, int fd, uint64_t tag) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
  if (!sqe) return -EBUSY;
  // POLLHUP and POLLERR come unasked; a half-closed stream is readable.
  io_uring_prep_poll_add(sqe, fd, POLLIN | POLLRDHUP);
  io_uring_sqe_set_data64(sqe, tag);
  return 0;
}

int hf_ring_unwatch(hf_ring *r, uint64_t watched, uint64_t tag) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
  if (!sqe) return -EBUSY;
  io_uring_prep_poll_remove(sqe, watched);
  io_uring_sqe_set_data64(sqe, tag);
  return 0;
}

int hf_ring_submit_and_wait(hf_ring *r, unsigned count) { return io_uring_submit_and_wait(&r->ring, count); }

int hf_ring_next(hf_ring *r, uint64_t *tag, int32_t *result) {
  struct io_uring_cqe *cqe;
  if (io_uring_peek_cqe(&r->ring, &cqe) != 0) return 0;
  *tag = cqe->user_data;
  *result = cqe->res;
  io_uring_cqe_seen(&r->ring, cqe);
  return 1;
}
