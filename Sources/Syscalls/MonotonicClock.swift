// Time that never goes back.

import CLinux

package enum MonotonicClock {
  /// Nanoseconds of CLOCK_MONOTONIC.
  @inline(__always)
  package static var nanoseconds: Int64 { hf_monotonic_nanoseconds() }
}
