// Waiting without a clock library.

import Glibc

/// Blocks the thread; a signal may end it early.
package func sleepMilliseconds(_ milliseconds: UInt64) {
  var time = timespec(tv_sec: Int(milliseconds / 1000), tv_nsec: Int(milliseconds % 1000) * 1_000_000)
  unsafe nanosleep(&time, nil)
}

/// Blocks the thread for all of `time`, whatever signals come.
package func sleep(for time: Duration) {
  let (seconds, attoseconds) = time.components
  var wanted = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
  var rest = timespec()
  while unsafe nanosleep(&wanted, &rest) != 0 && errno == EINTR { wanted = rest }
}

/// Lets other threads that are ready to run go first.
package func yieldThread() { _ = sched_yield() }
