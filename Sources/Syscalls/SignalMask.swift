// Which signals wait for the event loop.

import CLinux

package enum SignalMask {
  /// Blocks `numbers` in the calling thread and in the threads it makes from now on. Called first thing on the main thread:
  /// a signal that any thread leaves unblocked never reaches the event loop. Children inherit the mask through exec.
  package static func block(_ numbers: [Int32]) {
    for number in numbers {
      precondition(hf_signal_block(number) == 0, "signal \(number) can be blocked")
    }
  }

  /// What a child process needs between fork and exec, or a test: the opposite of `block`.
  package static func unblock(_ numbers: [Int32]) {
    for number in numbers {
      precondition(hf_signal_unblock(number) == 0, "signal \(number) can be unblocked")
    }
  }
}
