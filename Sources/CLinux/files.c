#define _GNU_SOURCE 1
#include "include/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

static int64_t hf_result(int64_t r) { return r < 0 ? -(int64_t)errno : r; }

// ---- open, close, names

int64_t hf_open(const char *path, int flags, unsigned mode) { return hf_result(open(path, flags, mode)); }
int64_t hf_close(int fd) { return hf_result(close(fd)); }
int64_t hf_dup(int fd) { return hf_result(fcntl(fd, F_DUPFD_CLOEXEC, 3)); }
int64_t hf_unlink(const char *path) { return hf_result(unlink(path)); }
int64_t hf_unlink_in(int directory, const char *name) { return hf_result(unlinkat(directory, name, 0)); }
int64_t hf_open_unnamed(int directory, unsigned mode) {
  return hf_result(openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
}
int64_t hf_name_file(int fd, int directory, const char *name) {
  char own[32];
  snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
  return hf_result(linkat(AT_FDCWD, own, directory, name, AT_SYMLINK_FOLLOW));
}
// `d_name` imports as a tuple.
const char *hf_dirent_name(const void *entry) { return ((const struct dirent *)entry)->d_name; }

// ---- data

int64_t hf_pread(int fd, void *out, size_t n, int64_t at) { return hf_result(pread(fd, out, n, at)); }
int64_t hf_pwrite(int fd, const void *in, size_t n, int64_t at) { return hf_result(pwrite(fd, in, n, at)); }
int64_t hf_read(int fd, void *out, size_t n) { return hf_result(read(fd, out, n)); }
int64_t hf_pread_nowait(int fd, void *out, size_t n, int64_t at) {
  struct iovec v = {out, n};
  return hf_result(preadv2(fd, &v, 1, at, RWF_NOWAIT));
}
int64_t hf_fdatasync(int fd) { return hf_result(fdatasync(fd)); }
int64_t hf_fsync(int fd) { return hf_result(fsync(fd)); }
int64_t hf_ftruncate(int fd, int64_t n) { return hf_result(ftruncate(fd, n)); }
int64_t hf_will_need(int fd, int64_t at, int64_t n) { return -(int64_t)posix_fadvise(fd, at, n, POSIX_FADV_WILLNEED); }
int64_t hf_dont_need(int fd) { return -(int64_t)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); }

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
int64_t hf_cached_pages(int fd, uint64_t at, uint64_t n) {
  struct { uint64_t at, n; } range = {at, n};
  struct { uint64_t cached, dirty, writeback, evicted, recently_evicted; } count = {0};
  return syscall(SYS_cachestat, fd, &range, &count, 0) < 0 ? -(int64_t)errno : (int64_t)count.cached;
}

// ---- layout

_Static_assert(HF_PUNCH_HOLE == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), "linux/falloc.h");
_Static_assert(HF_ZERO_RANGE == (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE), "linux/falloc.h");
_Static_assert(HF_ALLOCATE == FALLOC_FL_KEEP_SIZE, "linux/falloc.h");
int64_t hf_fallocate(int fd, int mode, int64_t at, int64_t n) { return hf_result(fallocate(fd, mode, at, n)); }
int64_t hf_seek_data(int fd, int64_t at) { return hf_result(lseek(fd, at, SEEK_DATA)); }
int64_t hf_seek_hole(int fd, int64_t at) { return hf_result(lseek(fd, at, SEEK_HOLE)); }
int64_t hf_seek_set(int fd, int64_t at) { return hf_result(lseek(fd, at, SEEK_SET)); }

_Static_assert(HF_MAP_HEADER_BYTES == sizeof(struct fiemap), "linux/fiemap.h");
_Static_assert(HF_MAP_EXTENT_BYTES == sizeof(struct fiemap_extent), "linux/fiemap.h");
_Static_assert(HF_EXTENT_LAST == FIEMAP_EXTENT_LAST, "linux/fiemap.h");
_Static_assert(HF_EXTENT_UNWRITTEN == FIEMAP_EXTENT_UNWRITTEN, "linux/fiemap.h");
int64_t hf_map_extents(int fd, uint64_t at, uint64_t n, void *memory, uint32_t max) {
  struct fiemap *map = memory;
  *map = (struct fiemap){.fm_start = at, .fm_length = n, .fm_extent_count = max};
  if (ioctl(fd, FS_IOC_FIEMAP, map) < 0) return -(int64_t)errno;
  return map->fm_mapped_extents < max ? map->fm_mapped_extents : max;
}
hf_extent hf_mapped_extent(const void *memory, uint32_t index) {
  const struct fiemap_extent *extent = ((const struct fiemap *)memory)->fm_extents + index;
  return (hf_extent){extent->fe_logical, extent->fe_length, extent->fe_flags};
}

// ---- reflinks

int64_t hf_clone(int to, int from) { return hf_result(ioctl(to, FICLONE, from)); }
int64_t hf_clone_range(int to, int from, uint64_t at, uint64_t n, uint64_t to_at) {
  struct file_clone_range range = {.src_fd = from, .src_offset = at, .src_length = n, .dest_offset = to_at};
  return hf_result(ioctl(to, FICLONERANGE, &range));
}

// ---- what a file is

static void hf_fill(hf_status *out, const struct stat *s) {
  out->size = (uint64_t)s->st_size; out->dev = s->st_dev; out->ino = s->st_ino; out->rdev = s->st_rdev;
  out->block = (uint64_t)s->st_blksize; out->blocks512 = (uint64_t)s->st_blocks; out->mode = s->st_mode;
}
int64_t hf_fstat(int fd, hf_status *out) {
  struct stat s;
  if (fstat(fd, &s) < 0) return -(int64_t)errno;
  hf_fill(out, &s);
  return 0;
}
int64_t hf_stat(const char *path, hf_status *out) {
  struct stat s;
  if (stat(path, &s) < 0) return -(int64_t)errno;
  hf_fill(out, &s);
  return 0;
}
uint32_t hf_major(uint64_t dev) { return major(dev); }
uint32_t hf_minor(uint64_t dev) { return minor(dev); }
uint64_t hf_makedev(uint32_t high, uint32_t low) { return makedev(high, low); }

int64_t hf_fstatfs(int fd, hf_fs_status *out) {
  struct statfs s;
  if (fstatfs(fd, &s) < 0) return -(int64_t)errno;
  out->magic = (uint32_t)s.f_type; out->block = (uint64_t)s.f_bsize;
  return 0;
}

// ---- open file description locks (struct flock needs l_pid == 0)

int64_t hf_ofd_lock(int fd, int type, int64_t at, int64_t n) {
  struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = at, .l_len = n};
  return hf_result(fcntl(fd, F_OFD_SETLK, &l));
}
// 1: a lock of `type` would conflict with somebody else's. 0: it would not.
int64_t hf_ofd_conflicts(int fd, int type, int64_t at, int64_t n) {
  struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = at, .l_len = n};
  if (fcntl(fd, F_OFD_GETLK, &l) < 0) return -(int64_t)errno;
  return l.l_type != F_UNLCK;
}

// ---- block devices

int64_t hf_blk_size(int fd, uint64_t *out) { return hf_result(ioctl(fd, BLKGETSIZE64, out)); }
int64_t hf_blk_logical(int fd) { int v = 0; return ioctl(fd, BLKSSZGET, &v) < 0 ? -(int64_t)errno : v; }
int64_t hf_blk_physical(int fd) { unsigned v = 0; return ioctl(fd, BLKPBSZGET, &v) < 0 ? -(int64_t)errno : v; }
int64_t hf_blk_read_only(int fd) { int v = 0; return ioctl(fd, BLKROGET, &v) < 0 ? -(int64_t)errno : v != 0; }
int64_t hf_blk_rotational(int fd) { unsigned short v = 0; return ioctl(fd, BLKROTATIONAL, &v) < 0 ? -(int64_t)errno : v != 0; }
int64_t hf_blk_discard(int fd, uint64_t at, uint64_t n) {
  uint64_t range[2] = {at, n};
  return hf_result(ioctl(fd, BLKDISCARD, range));
}

// ---- signals

int64_t hf_ignore_signal(int number) {
  struct sigaction a = {.sa_handler = SIG_IGN};
  return hf_result(sigaction(number, &a, 0));
}

// ---- terminals

int64_t hf_terminal_size(int fd, uint32_t *columns, uint32_t *rows) {
  struct winsize size;
  if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 || size.ws_row == 0) return 0;
  *columns = size.ws_col; *rows = size.ws_row;
  return 1;
}
