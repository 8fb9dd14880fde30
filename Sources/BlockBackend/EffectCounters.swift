// What TRIM and WRITE_ZEROES of one image came to at the disk, bytes. A few additions beside calls that take microseconds.

import Synchronization

package final class EffectCounters: Sendable {
  package struct Counts: Sendable, Equatable {
    /// Given back by TRIM.
    package var trimmed: UInt64 = 0
    /// Zeroed by punching holes.
    package var punched: UInt64 = 0
    /// Zeroed by FALLOC_FL_ZERO_RANGE.
    package var zeroed: UInt64 = 0
    /// Zeroed by writing zeroes.
    package var written: UInt64 = 0

    package init() {}

    package static func += (a: inout Counts, b: Counts) {
      a.trimmed += b.trimmed
      a.punched += b.punched
      a.zeroed += b.zeroed
      a.written += b.written
    }
  }

  package enum Purpose: Sendable { case trim, zero }

  private let trimmed = Atomic<UInt64>(0)
  private let punched = Atomic<UInt64>(0)
  private let zeroed = Atomic<UInt64>(0)
  private let written = Atomic<UInt64>(0)

  package init() {}

  /// A call did `bytes`.
  package func note(_ call: FileCall.Kind, _ bytes: UInt64, for purpose: Purpose) {
    switch (purpose, call) {
    case (.trim, .punchHole), (.trim, .discard): trimmed.wrappingAdd(bytes, ordering: .relaxed)
    case (.zero, .punchHole): punched.wrappingAdd(bytes, ordering: .relaxed)
    case (.zero, .zeroRange): zeroed.wrappingAdd(bytes, ordering: .relaxed)
    case (.zero, .write): written.wrappingAdd(bytes, ordering: .relaxed)
    // Allocating what was punched before is the second half of one step.
    case (.zero, .allocate), (.trim, _), (.zero, _): break
    }
  }

  package var counts: Counts {
    var counts = Counts()
    counts.trimmed = trimmed.load(ordering: .relaxed)
    counts.punched = punched.load(ordering: .relaxed)
    counts.zeroed = zeroed.load(ordering: .relaxed)
    counts.written = written.load(ordering: .relaxed)
    return counts
  }
}
