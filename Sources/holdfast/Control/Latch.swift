// Waits for something that happens once.

import Locking
import Syscalls

/// Opened once, by any thread, with what happened.
final class Latch<Value: Sendable>: Sendable {
  private let value = Locked<Value?>(nil)

  func open(_ new: Value) { value.withLock { if $0 == nil { $0 = new } } }

  /// Blocks the thread, at most `seconds`; nil when it was not opened. For operators who wait: it looks every few milliseconds.
  func wait(seconds: Int) -> Value? {
    let end = MonotonicClock.nanoseconds + Int64(seconds) * 1_000_000_000
    while true {
      if let value = value.withLock({ $0 }) { return value }
      guard MonotonicClock.nanoseconds < end else { return nil }
      sleepMilliseconds(5)
    }
  }
}
