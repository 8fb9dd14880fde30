// Preloaded into any server by holdfast-torture: makes the next write or sync of a file go wrong, once, when it is told to.
// It is told by files in the folder HOLDFAST_TORTURE_FAULTS; renaming one is the sign that it has been obeyed:
//
//   hold-write   -> held        the next write of a file waits until the file `release` is there (30 s at most)
//   short-write  -> shortened   the next write of more than 512 bytes writes the first half of them only
//   fail-sync    -> failed      the next sync of a file returns EIO once, as a kernel reports a failed write-back once
//
// A server that writes through io_uring is not reached.
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const char *file_named(const char *name, char *out, size_t size) {
  const char *folder = getenv("HOLDFAST_TORTURE_FAULTS");
  if (!folder) return NULL;
  snprintf(out, size, "%s/%s", folder, name);
  return out;
}

// Whether `order` was there; it is `done` from now on, for one caller only.
static int obey(const char *order, const char *done) {
  char from[4096], to[4096];
  int before = errno;
  int found = file_named(order, from, sizeof from) && file_named(done, to, sizeof to) && rename(from, to) == 0;
  errno = before;
  return found;
}

static int is_file(int fd) {
  struct stat s;
  int before = errno;
  int found = fstat(fd, &s) == 0 && (S_ISREG(s.st_mode) || S_ISBLK(s.st_mode));
  errno = before;
  return found;
}

static void hold_if_told(int fd) {
  char release[4096];
  if (!is_file(fd) || !obey("hold-write", "held") || !file_named("release", release, sizeof release)) return;
  int before = errno;
  for (int i = 0; i < 30000 && access(release, F_OK) != 0; i++) usleep(1000);
  errno = before;
}

static size_t cut_if_told(int fd, size_t n) {
  return n > 512 && is_file(fd) && obey("short-write", "shortened") ? n / 2 : n;
}

static ssize_t cut_vector_if_told(int fd, const struct iovec *v, int count, struct iovec *first) {
  if (count < 1 || v[0].iov_len <= 512 || !is_file(fd) || !obey("short-write", "shortened")) return 0;
  first->iov_base = v[0].iov_base;
  first->iov_len = v[0].iov_len / 2;
  return 1;
}

static int fails_if_told(int fd) {
  if (!is_file(fd) || !obey("fail-sync", "failed")) return 0;
  errno = EIO;
  return 1;
}

ssize_t pwrite(int fd, const void *in, size_t n, off_t at) {
  hold_if_told(fd);
  return REAL(pwrite)(fd, in, cut_if_told(fd, n), at);
}

ssize_t pwrite64(int fd, const void *in, size_t n, off64_t at) {
  hold_if_told(fd);
  return REAL(pwrite64)(fd, in, cut_if_told(fd, n), at);
}

ssize_t pwritev(int fd, const struct iovec *v, int count, off_t at) {
  struct iovec first;
  hold_if_told(fd);
  if (cut_vector_if_told(fd, v, count, &first)) return REAL(pwritev)(fd, &first, 1, at);
  return REAL(pwritev)(fd, v, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *v, int count, off64_t at) {
  struct iovec first;
  hold_if_told(fd);
  if (cut_vector_if_told(fd, v, count, &first)) return REAL(pwritev64)(fd, &first, 1, at);
  return REAL(pwritev64)(fd, v, count, at);
}

ssize_t pwritev2(int fd, const struct iovec *v, int count, off_t at, int flags) {
  struct iovec first;
  hold_if_told(fd);
  if (cut_vector_if_told(fd, v, count, &first)) return REAL(pwritev2)(fd, &first, 1, at, flags);
  return REAL(pwritev2)(fd, v, count, at, flags);
}

ssize_t write(int fd, const void *in, size_t n) {
  // Logs are written, too, but not in such pieces.
  if (n < 512) return REAL(write)(fd, in, n);
  hold_if_told(fd);
  return REAL(write)(fd, in, cut_if_told(fd, n));
}

int fsync(int fd) { return fails_if_told(fd) ? -1 : REAL(fsync)(fd); }

int fdatasync(int fd) { return fails_if_told(fd) ? -1 : REAL(fdatasync)(fd); }

int sync_file_range(int fd, off64_t at, off64_t n, unsigned flags) {
  return fails_if_told(fd) ? -1 : REAL(sync_file_range)(fd, at, n, flags);
}
