#define _GNU_SOURCE 1
#include "include/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int names_same(const char *a, const char *b) {
  const char *end = strchrnul(a, '=');
  return strncmp(a, b, (size_t)(end - a) + 1) == 0;
}

int hf_spawn(const char *path, char *const *argv, char *const *added) {
  // Where it is ignored, which programs inherit, the kernel keeps no exit status.
  signal(SIGCHLD, SIG_DFL);
  size_t count = 0, own = 0;
  while (environ && environ[count]) count++;
  while (added[own]) own++;
  char **environment = calloc(count + own + 1, sizeof *environment);
  if (!environment) return -ENOMEM;
  size_t at = 0;
  for (size_t i = 0; i < count; i++) {
    int replaced = 0;
    for (size_t j = 0; j < own; j++) replaced |= names_same(added[j], environ[i]);
    if (!replaced) environment[at++] = environ[i];
  }
  for (size_t j = 0; j < own; j++) environment[at++] = added[j];

  posix_spawnattr_t attributes;
  sigset_t none, standard;
  sigemptyset(&none);
  sigemptyset(&standard);
  sigaddset(&standard, SIGPIPE);
  sigaddset(&standard, SIGXFSZ);
  pid_t pid = 0;
  int r = posix_spawnattr_init(&attributes);
  if (r == 0) {
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &standard);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = posix_spawn(&pid, path, NULL, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
  }
  free(environment);
  return r != 0 ? -r : pid;
}

int hf_await_child(int pid) {
  siginfo_t ignored;
  int r;
  do r = waitid(P_PID, (id_t)pid, &ignored, WEXITED | WNOWAIT);
  while (r < 0 && errno == EINTR);
  return r < 0 ? -errno : 0;
}

int hf_reap(int pid) {
  int status, r;
  do r = waitpid(pid, &status, 0);
  while (r < 0 && errno == EINTR);
  if (r < 0) return -errno;
  return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

int hf_kill(int pid, int number) { return kill(pid, number) < 0 ? -errno : 0; }

int hf_set_parent_death_signal(int number) { return prctl(PR_SET_PDEATHSIG, number) < 0 ? -errno : 0; }

int hf_is_same_file(int a, int b) {
  struct stat first, second;
  if (fstat(a, &first) < 0 || fstat(b, &second) < 0) return -errno;
  return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

int hf_connected_type(int fd) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  if (getpeername(fd, (struct sockaddr *)&address, &length) < 0) return -errno;
  int type;
  length = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ? -errno : type;
}

int hf_replace(int source, int fd, int close_on_exec) {
  int r = source == fd ? fd : dup3(source, fd, close_on_exec ? O_CLOEXEC : 0);
  return r < 0 ? -errno : r;
}

int hf_duplicate_from(int fd, int least) {
  int r = fcntl(fd, F_DUPFD_CLOEXEC, least);
  return r < 0 ? -errno : r;
}

int hf_make_temporary_directory(char *name) { return mkdtemp(name) ? 0 : -errno; }

int hf_remove_directory(const char *path) { return rmdir(path) < 0 ? -errno : 0; }

int hf_rename(const char *from, const char *to) { return rename(from, to) < 0 ? -errno : 0; }
