#pragma once
// What Swift cannot import of file system calls. Every wrapper returns >= 0 or -errno.
