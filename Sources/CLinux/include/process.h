#pragma once
// Processes, for Swift: how they are started, followed and ended. Every wrapper returns >= 0 or -errno. As in sockets.h, no system
// header stands here.
#include <stdint.h>

// Starts `path` with `argv`; `added` are NAME=VALUE, which take the place of variables of the same name. The child blocks no
// signal and has the default action for those that a server ignores. posix_spawn's file actions and attributes are opaque
// structures, and the environment is an unsafe global.
int hf_spawn(const char *path, char *const *argv, char *const *added);
// Waits until a child has ended, and leaves it to hf_reap: its number stays its own until then.
int hf_await_child(int pid);
// How a child ended that has: its exit status, or 256 + the signal. The macros of wait.h are not imported.
int hf_reap(int pid);
int hf_kill(int pid, int number);
// The kernel sends this process `number` when the thread that started it ends. prctl is variadic.
int hf_set_parent_death_signal(int number);
// Whether two descriptors are the same file, device or socket: 1 or 0.
int hf_is_same_file(int a, int b);
// A socket with a peer: its SO_TYPE, or an error (-ENOTSOCK, -ENOTCONN).
int hf_connected_type(int fd);
// `fd` becomes what `source` is, with close-on-exec when asked for.
int hf_replace(int source, int fd, int close_on_exec);
// The next free number from `least` up, with close-on-exec.
int hf_duplicate_from(int fd, int least);
// A directory of its own name: the last six characters of `name` are X and are replaced.
int hf_make_temporary_directory(char *name);
int hf_remove_directory(const char *path);
int hf_rename(const char *from, const char *to);
