#define _GNU_SOURCE 1
#include "include/epoll.h"

#include <errno.h>
#include <sys/epoll.h>

int hf_epoll_create(void) {
  int r = epoll_create1(EPOLL_CLOEXEC);
  return r < 0 ? -errno : r;
}

static int hf_epoll_control(int set, int operation, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  return epoll_ctl(set, operation, fd, &event) < 0 ? -errno : 0;
}

int hf_epoll_add(int set, int fd, uint32_t events, uint64_t data) {
  return hf_epoll_control(set, EPOLL_CTL_ADD, fd, events, data);
}

int hf_epoll_change(int set, int fd, uint32_t events, uint64_t data) {
  return hf_epoll_control(set, EPOLL_CTL_MOD, fd, events, data);
}

int hf_epoll_remove(int set, int fd) { return hf_epoll_control(set, EPOLL_CTL_DEL, fd, 0, 0); }

int hf_epoll_wait(int set, struct hf_epoll_ready *to, int max, int milliseconds) {
  struct epoll_event events[64];
  int count = epoll_wait(set, events, max < 64 ? max : 64, milliseconds);
  if (count < 0) return -errno;
  for (int i = 0; i < count; i++) {
    to[i].data = events[i].data.u64;
    to[i].events = events[i].events;
  }
  return count;
}
