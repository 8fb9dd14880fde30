#pragma once
// What Swift cannot import of file system calls. Every wrapper returns >= 0 or -errno, so that nobody reads `errno`
// (another call on the thread may have changed it). One reason each:
//   variadic in C             open, fcntl, ioctl
//   only with _GNU_SOURCE     fallocate, preadv2
//   a macro with a cast       SIG_IGN, BLKGETSIZE64, ...
//   errno                     the rest
// The bodies are in files.c, and this header includes nothing of the system: with _GNU_SOURCE its types differ from those
// that other C modules of the same program show to Swift (fd_set in swift-system), which is a compile error.

#include <stddef.h>
#include <stdint.h>


// ---- open, close, names
int64_t hf_open(const char *path, int flags, unsigned mode);
int64_t hf_close(int fd);
int64_t hf_dup(int fd);
int64_t hf_unlink(const char *path);
int64_t hf_unlink_in(int directory, const char *name);
// A file without a name in this directory (O_TMPFILE), and the name for it.
int64_t hf_open_unnamed(int directory, unsigned mode);
int64_t hf_name_file(int fd, int directory, const char *name);
// `d_name` imports as a tuple.
const char *hf_dirent_name(const void *entry);

// ---- data
int64_t hf_pread(int fd, void *out, size_t n, int64_t at);
int64_t hf_pwrite(int fd, const void *in, size_t n, int64_t at);
int64_t hf_read(int fd, void *out, size_t n);
int64_t hf_pread_nowait(int fd, void *out, size_t n, int64_t at);
int64_t hf_fdatasync(int fd);
int64_t hf_fsync(int fd);
int64_t hf_ftruncate(int fd, int64_t n);
int64_t hf_will_need(int fd, int64_t at, int64_t n);
// POSIX_FADV_DONTNEED for all of the file.
int64_t hf_dont_need(int fd);
// cachestat(2), Linux 6.5: how many pages of these bytes are in the page cache.
int64_t hf_cached_pages(int fd, uint64_t at, uint64_t n);

// ---- layout (the modes of hf_fallocate; none changes the size)
enum { HF_ALLOCATE = 0x01, HF_PUNCH_HOLE = 0x03, HF_ZERO_RANGE = 0x11 };
int64_t hf_fallocate(int fd, int mode, int64_t at, int64_t n);
int64_t hf_seek_data(int fd, int64_t at);
int64_t hf_seek_hole(int fd, int64_t at);
int64_t hf_seek_set(int fd, int64_t at);
// FS_IOC_FIEMAP without FIEMAP_FLAG_SYNC into `memory`, which has room for `max` extents: how many came, in ascending order.
// struct fiemap ends in an array of no size, which Swift cannot import.
enum { HF_MAP_HEADER_BYTES = 32, HF_MAP_EXTENT_BYTES = 56 };
enum { HF_EXTENT_LAST = 0x1, HF_EXTENT_UNWRITTEN = 0x800 };
typedef struct {
  uint64_t offset, length;
  uint32_t flags;
} hf_extent;
int64_t hf_map_extents(int fd, uint64_t at, uint64_t n, void *memory, uint32_t max);
hf_extent hf_mapped_extent(const void *memory, uint32_t index);

// ---- reflinks: FICLONE, FICLONERANGE (a length of 0: to the end)
int64_t hf_clone(int to, int from);
int64_t hf_clone_range(int to, int from, uint64_t at, uint64_t n, uint64_t to_at);

// ---- what a file is
typedef struct {
  uint64_t size, dev, ino, rdev, block, blocks512;
  uint32_t mode;
} hf_status;
typedef struct {
  uint64_t magic, block;
} hf_fs_status;
int64_t hf_fstat(int fd, hf_status *out);
int64_t hf_stat(const char *path, hf_status *out);
uint32_t hf_major(uint64_t dev);
uint32_t hf_minor(uint64_t dev);
uint64_t hf_makedev(uint32_t high, uint32_t low);
int64_t hf_fstatfs(int fd, hf_fs_status *out);

// ---- open file description locks (struct flock needs l_pid == 0)
int64_t hf_ofd_lock(int fd, int type, int64_t at, int64_t n);
// 1: a lock of `type` would conflict with somebody else's. 0: it would not.
int64_t hf_ofd_conflicts(int fd, int type, int64_t at, int64_t n);

// ---- block devices
int64_t hf_blk_size(int fd, uint64_t *out);
int64_t hf_blk_logical(int fd);
int64_t hf_blk_physical(int fd);
int64_t hf_blk_read_only(int fd);
int64_t hf_blk_rotational(int fd);
int64_t hf_blk_discard(int fd, uint64_t at, uint64_t n);

// ---- signals
int64_t hf_ignore_signal(int number);

// ---- terminals (ioctl)
// 1 and the size when `fd` is a terminal that knows it.
int64_t hf_terminal_size(int fd, uint32_t *columns, uint32_t *rows);
