#pragma once
// What Swift cannot import of socket and thread calls. Every wrapper returns >= 0 or -errno.
