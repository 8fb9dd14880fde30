#define _GNU_SOURCE 1
#include "include/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static socklen_t hf_to_sockaddr(const struct hf_address *from, struct sockaddr_storage *to) {
  memset(to, 0, sizeof *to);
  if (from->family == AF_INET) {
    struct sockaddr_in *in = (struct sockaddr_in *)to;
    in->sin_family = AF_INET;
    in->sin_port = htons(from->port);
    memcpy(&in->sin_addr, from->bytes, 4);
    return sizeof *in;
  }
  if (from->family == AF_INET6) {
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)to;
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(from->port);
    in->sin6_scope_id = from->scope;
    memcpy(&in->sin6_addr, from->bytes, 16);
    return sizeof *in;
  }
  struct sockaddr_un *un = (struct sockaddr_un *)to;
  un->sun_family = AF_UNIX;
  memcpy(un->sun_path, from->path, sizeof un->sun_path);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strnlen(from->path, sizeof un->sun_path - 1) + 1);
}

static void hf_from_sockaddr(const struct sockaddr_storage *from, socklen_t length, struct hf_address *to) {
  memset(to, 0, sizeof *to);
  if (length < sizeof(sa_family_t)) return;
  to->family = from->ss_family;
  if (from->ss_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)from;
    to->port = ntohs(in->sin_port);
    memcpy(to->bytes, &in->sin_addr, 4);
  } else if (from->ss_family == AF_INET6) {
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)from;
    to->port = ntohs(in->sin6_port);
    to->scope = in->sin6_scope_id;
    memcpy(to->bytes, &in->sin6_addr, 16);
  } else if (from->ss_family == AF_UNIX && length > offsetof(struct sockaddr_un, sun_path)) {
    size_t count = length - offsetof(struct sockaddr_un, sun_path);
    memcpy(to->path, ((const struct sockaddr_un *)from)->sun_path, count < sizeof to->path ? count : sizeof to->path);
  }
}

int hf_socket_stream(int family) {
  int r = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return r < 0 ? -errno : r;
}

int hf_socket_pair(int *a, int *b) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) return -errno;
  *a = fds[0];
  *b = fds[1];
  return 0;
}

int hf_send_datagram(const char *name, const void *bytes, size_t count) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(name);
  if (length == 0 || length >= sizeof address.sun_path) return -EINVAL;
  memcpy(address.sun_path, name, length);
  int isAbstract = name[0] == '@';
  if (isAbstract) address.sun_path[0] = 0;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (isAbstract ? 0 : 1));
  ssize_t r = sendto(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, size);
  int result = r < 0 ? -errno : 0;
  close(fd);
  return result;
}

int hf_bind(int fd, const struct hf_address *address) {
  struct sockaddr_storage storage;
  socklen_t length = hf_to_sockaddr(address, &storage);
  return bind(fd, (struct sockaddr *)&storage, length) < 0 ? -errno : 0;
}

int hf_connect(int fd, const struct hf_address *address) {
  struct sockaddr_storage storage;
  socklen_t length = hf_to_sockaddr(address, &storage);
  return connect(fd, (struct sockaddr *)&storage, length) < 0 ? -errno : 0;
}

int hf_listen(int fd, int backlog) { return listen(fd, backlog) < 0 ? -errno : 0; }

int hf_accept(int fd, struct hf_address *peer) {
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  int r = accept4(fd, (struct sockaddr *)&storage, &length, SOCK_CLOEXEC);
  if (r < 0) return -errno;
  hf_from_sockaddr(&storage, length, peer);
  return r;
}

int hf_getsockname(int fd, struct hf_address *name) {
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  if (getsockname(fd, (struct sockaddr *)&storage, &length) < 0) return -errno;
  hf_from_sockaddr(&storage, length, name);
  return 0;
}

int hf_getpeername(int fd, struct hf_address *name) {
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  if (getpeername(fd, (struct sockaddr *)&storage, &length) < 0) return -errno;
  hf_from_sockaddr(&storage, length, name);
  return 0;
}

int hf_peer_credentials(int fd, struct hf_credentials *to) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -errno;
  to->pid = credentials.pid;
  to->uid = credentials.uid;
  to->gid = credentials.gid;
  return 0;
}

int hf_resolve(const char *host, uint16_t port, struct hf_address *to, int max) {
  struct addrinfo hints, *list = NULL;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(host, NULL, &hints, &list) != 0) return -EHOSTUNREACH;
  int count = 0;
  for (struct addrinfo *each = list; each && count < max; each = each->ai_next) {
    struct sockaddr_storage storage;
    if (each->ai_addrlen > sizeof storage) continue;
    memcpy(&storage, each->ai_addr, each->ai_addrlen);
    hf_from_sockaddr(&storage, each->ai_addrlen, &to[count]);
    if (to[count].family != AF_INET && to[count].family != AF_INET6) continue;
    to[count++].port = port;
  }
  freeaddrinfo(list);
  return count > 0 ? count : -EHOSTUNREACH;
}

long hf_recv(int fd, void *to, size_t count, int flags) {
  ssize_t r;
  do r = recv(fd, to, count, flags);
  while (r < 0 && errno == EINTR);
  return r < 0 ? -(long)errno : r;
}

long hf_send(int fd, const void *from, size_t count, int flags) {
  ssize_t r;
  do r = send(fd, from, count, flags | MSG_NOSIGNAL);
  while (r < 0 && errno == EINTR);
  return r < 0 ? -(long)errno : r;
}

long hf_send2(int fd, const void *a, size_t a_count, const void *b, size_t b_count, int flags) {
  struct iovec vector[2] = {{(void *)a, a_count}, {(void *)b, b_count}};
  struct msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_iov = vector;
  message.msg_iovlen = 2;
  ssize_t r;
  do r = sendmsg(fd, &message, flags | MSG_NOSIGNAL);
  while (r < 0 && errno == EINTR);
  return r < 0 ? -(long)errno : r;
}

int hf_shutdown(int fd, int how) { return shutdown(fd, how) < 0 ? -errno : 0; }

int hf_set_int_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

int hf_get_int_option(int fd, int level, int name, int *value) {
  socklen_t length = sizeof *value;
  return getsockopt(fd, level, name, value, &length) < 0 ? -errno : 0;
}

int hf_set_receive_timeout(int fd, int64_t microseconds) {
  struct timeval time = {microseconds / 1000000, microseconds % 1000000};
  return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) < 0 ? -errno : 0;
}

int hf_set_nonblocking(int fd, int on) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  return wanted != flags && fcntl(fd, F_SETFL, wanted) < 0 ? -errno : 0;
}

int hf_set_close_on_exec(int fd) { return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0; }

int hf_wait(int fd, int wanted, int milliseconds) {
  short in = wanted & HF_CAN_RECEIVE ? POLLIN : 0, out = wanted & HF_CAN_SEND ? POLLOUT : 0;
  struct pollfd entry = {fd, in | out, 0};
  if (poll(&entry, 1, milliseconds) < 0) return -errno;
  if (entry.revents & (POLLHUP | POLLERR | POLLNVAL)) return HF_CAN_RECEIVE | HF_CAN_SEND;
  return (entry.revents & POLLIN ? HF_CAN_RECEIVE : 0) | (entry.revents & POLLOUT ? HF_CAN_SEND : 0);
}

int hf_hung_up(int fd) {
  struct pollfd entry = {fd, 0, 0};
  int r;
  do r = poll(&entry, 1, 0);
  while (r < 0 && errno == EINTR);
  if (r < 0) return -errno;
  return (entry.revents & (POLLHUP | POLLERR)) != 0;
}

int hf_has_bytes(int fd) {
  char byte;
  return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

int hf_thread_create(size_t stack_bytes, void *(*body)(void *), void *context) {
  pthread_attr_t attributes;
  pthread_t thread;
  sigset_t all;
  int r = pthread_attr_init(&attributes);
  if (r != 0) return -r;
  sigfillset(&all);
  r = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  if (r == 0) r = pthread_attr_setstacksize(&attributes, stack_bytes);
  if (r == 0) r = pthread_attr_setsigmask_np(&attributes, &all);
  if (r == 0) r = pthread_create(&thread, &attributes, body, context);
  pthread_attr_destroy(&attributes);
  return -r;
}

int hf_thread_set_name(const char *name) { return -pthread_setname_np(pthread_self(), name); }

int hf_thread_set_cpus(uint64_t cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int cpu = 0; cpu < 64; cpu++) {
    if (cpus >> cpu & 1) CPU_SET(cpu, &set);
  }
  return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

int hf_thread_cpus(uint64_t *cpus) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) return -errno;
  *cpus = 0;
  for (int cpu = 0; cpu < 64; cpu++) {
    if (CPU_ISSET(cpu, &set)) *cpus |= UINT64_C(1) << cpu;
  }
  return 0;
}

int64_t hf_thread_preemptions(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) < 0 ? 0 : usage.ru_nivcsw;
}

static atomic_int signal_descriptors[65];

static void count_signal(int number) {
  int saved = errno;
  uint64_t one = 1;
  // It can only fail when 2^64 - 2 of them are waiting.
  ssize_t ignored = write(atomic_load(&signal_descriptors[number]), &one, sizeof one);
  (void)ignored;
  errno = saved;
}

int hf_signal_descriptor(int number) {
  if (number < 1 || number > 64) return -EINVAL;
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return -errno;
  atomic_store(&signal_descriptors[number], fd);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = count_signal;
  action.sa_flags = SA_RESTART;
  // Whoever started us may have had it blocked, and a mask survives exec.
  sigset_t own;
  sigemptyset(&own);
  sigaddset(&own, number);
  if (sigaction(number, &action, NULL) == 0 && pthread_sigmask(SIG_UNBLOCK, &own, NULL) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

int64_t hf_signal_take(int fd) {
  uint64_t count;
  return read(fd, &count, sizeof count) == sizeof count ? (int64_t)(count & INT64_MAX) : -(int64_t)errno;
}

int64_t hf_monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int hf_descriptor_limits(uint64_t *soft, uint64_t *hard) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
  *soft = limit.rlim_cur;
  *hard = limit.rlim_max;
  return 0;
}

int hf_set_descriptor_limit(uint64_t soft) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
  limit.rlim_cur = soft;
  return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

int hf_open_directory(const char *path) {
  int r;
  do r = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  while (r < 0 && errno == EINTR);
  return r < 0 ? -errno : r;
}

int hf_try_flock(int fd) { return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0; }

int hf_socket_at(const char *path, uint64_t *device, uint64_t *inode) {
  struct stat about;
  if (lstat(path, &about) < 0) return errno == ENOENT ? 0 : -errno;
  *device = about.st_dev;
  *inode = about.st_ino;
  return S_ISSOCK(about.st_mode) ? 1 : 2;
}

int hf_fchmod(int fd, uint32_t mode) { return fchmod(fd, mode) < 0 ? -errno : 0; }
int hf_chmod(const char *path, uint32_t mode) { return chmod(path, mode) < 0 ? -errno : 0; }

int64_t hf_sendfile(int socket, int file, int64_t offset, size_t count) {
  off_t at = offset;
  ssize_t n = sendfile(socket, file, &at, count);
  return n < 0 ? -errno : n;
}
