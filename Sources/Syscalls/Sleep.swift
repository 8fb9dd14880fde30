// Waiting without a clock library.

import Glibc

/// Blocks the thread; a signal may end it early.
package func sleepMilliseconds(_ milliseconds: UInt64) {
  var time = timespec(tv_sec: Int(milliseconds / 1000), tv_nsec: Int(milliseconds % 1000) * 1_000_000)
  unsafe nanosleep(&time, nil)
}
