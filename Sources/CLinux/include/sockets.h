#pragma once
// What Swift cannot import of socket, thread and signal calls. Every wrapper returns >= 0 or -errno.
// No system header stands here: with _GNU_SOURCE its structures differ from those that swift-system's C module exports to
// Swift, and the compiler refuses both together.
#include <stddef.h>
#include <stdint.h>

// A socket address as one flat value: Swift cannot overlay the sockaddr family without unsafe pointer casts.
struct hf_address {
  int32_t family;    // AF_INET, AF_INET6, AF_UNIX, or 0: none
  uint16_t port;     // host order
  uint32_t scope;    // AF_INET6 only
  uint8_t bytes[16]; // network order; AF_INET uses the first four
  char path[108];    // AF_UNIX only, zero-terminated or 108 bytes long
};

// SO_PEERCRED: Swift does not see struct ucred (it hides behind _GNU_SOURCE).
struct hf_credentials {
  int32_t pid;
  uint32_t uid;
  uint32_t gid;
};

// SOCK_STREAM and SOCK_CLOEXEC are enums in glibc that Swift imports as distinct types.
int hf_socket_stream(int family);
int hf_socket_pair(int *a, int *b);
int hf_bind(int fd, const struct hf_address *address);
int hf_connect(int fd, const struct hf_address *address);
// One datagram to a Unix socket; a name that begins with '@' stands in the abstract namespace, whose names begin with a zero
// byte and end nowhere (unix(7)). Never waits.
int hf_send_datagram(const char *name, const void *bytes, size_t count);
int hf_listen(int fd, int backlog);
// accept4 is missing from Swift's Glibc module. The accepted socket is blocking: accept4 inherits no O_NONBLOCK.
int hf_accept(int fd, struct hf_address *peer);
int hf_getsockname(int fd, struct hf_address *name);
int hf_getpeername(int fd, struct hf_address *name);
int hf_peer_credentials(int fd, struct hf_credentials *to);
// Up to `max` stream addresses of a host name or literal; the count, or -EHOSTUNREACH when it has none.
// One call: Swift would have to walk a linked list of unsafe pointers.
int hf_resolve(const char *host, uint16_t port, struct hf_address *to, int max);
long hf_recv(int fd, void *to, size_t count, int flags);
long hf_send(int fd, const void *from, size_t count, int flags);
// Header and data in one call: building an iovec in Swift would need pointers that outlive their closures.
long hf_send2(int fd, const void *a, size_t a_count, const void *b, size_t b_count, int flags);
int hf_shutdown(int fd, int how);
int hf_set_int_option(int fd, int level, int name, int value);
int hf_get_int_option(int fd, int level, int name, int *value);
int hf_set_receive_timeout(int fd, int64_t microseconds);
// fcntl is variadic: Swift cannot call it.
int hf_set_nonblocking(int fd, int on);
int hf_set_close_on_exec(int fd);
// Has the peer hung up (both directions closed, or reset)? Never waits.
int hf_hung_up(int fd);
// Can something be received? Never waits.
int hf_has_bytes(int fd);
// Waits until something of `wanted` is possible, at most so long: what is (an error or hang-up is both), 0 for nothing.
enum { HF_CAN_RECEIVE = 1, HF_CAN_SEND = 2 };
int hf_wait(int fd, int wanted, int milliseconds);
// A detached thread with every signal blocked: signals belong to the event loop.
int hf_thread_create(size_t stack_bytes, void *(*body)(void *), void *context);
// At most 15 characters; longer names are cut by the caller.
int hf_thread_set_name(const char *name);
// The processors, as bits, on which the calling thread and what it starts from now on may run. cpu_set_t is all macros.
int hf_thread_set_cpus(uint64_t cpus);
int hf_thread_cpus(uint64_t *cpus);
// How often another thread has taken the processor from the calling one (RUSAGE_THREAD is an enumeration of the C library's own).
int64_t hf_thread_preemptions(void);
// From now on signal `number` is counted in the eventfd that is returned, whichever thread gets it. Once per number. A signal
// handler may call next to nothing; Swift cannot promise that.
int hf_signal_descriptor(int number);
// The signals since the last call; -EAGAIN for none.
int64_t hf_signal_take(int fd);
int64_t hf_monotonic_nanoseconds(void);
// RLIMIT_NOFILE is an enum that Swift imports as a distinct type.
int hf_descriptor_limits(uint64_t *soft, uint64_t *hard);
int hf_set_descriptor_limit(uint64_t soft);
// Opens a directory to flock it. open is variadic: Swift cannot call it.
int hf_open_directory(const char *path);
int hf_try_flock(int fd);
// What stands at a path, not following a link there: 0 nothing, 1 a socket, 2 something else; with its identity.
int hf_socket_at(const char *path, uint64_t *device, uint64_t *inode);
// Named after themselves: errno is a macro that Swift reads late.
int hf_fchmod(int fd, uint32_t mode);
int hf_chmod(const char *path, uint32_t mode);
// The offset goes by value: Swift has no business with where the kernel leaves it.
int64_t hf_sendfile(int socket, int file, int64_t offset, size_t count);
