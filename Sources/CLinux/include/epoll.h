#pragma once
// epoll for Swift: struct epoll_event is packed and holds a union, which Swift cannot import. Every wrapper returns >= 0 or
// -errno. As in sockets.h, no system header stands here.
#include <stdint.h>

// One event: what was given when the descriptor was added, and EPOLL* bits.
struct hf_epoll_ready {
  uint64_t data;
  uint32_t events;
};

// EPOLL_CLOEXEC is an enum that Swift imports as a distinct type.
int hf_epoll_create(void);
// Adds a descriptor, or changes what is wanted of it.
int hf_epoll_add(int set, int fd, uint32_t events, uint64_t data);
int hf_epoll_change(int set, int fd, uint32_t events, uint64_t data);
int hf_epoll_remove(int set, int fd);
// At most 64 at once.
int hf_epoll_wait(int set, struct hf_epoll_ready *to, int max, int milliseconds);
