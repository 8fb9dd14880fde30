// One rule of what shall go wrong: which calls of an image, which of those, and what happens to them. Pure: see
// `FaultRuleText.swift` for how it is written, `FaultInjection.swift` for how it is carried out.

import BlockBackend
import SystemPackage

/// Says which calls on an image fail, take long, come back short or are not made at all.
package struct FaultRule: Sendable, Equatable {
  package enum Effect: Sendable, Equatable {
    /// The call is made.
    case none
    case fail(Errno)
    /// At most so many bytes are done. Zero: none, and the call succeeds.
    case short(bytes: UInt64)
    /// The call succeeds without being made.
    case lose
    /// ENOSPC, from the first call that is hit until the image is trimmed.
    case fullUntilTrimmed
  }

  /// As it was written.
  package var text: String
  package var kinds: Set<FileCall.Kind>
  /// Calls that touch none of these bytes are not counted.
  package var range: Range<UInt64>?
  /// The first call that may be hit, 1 for the next one.
  package var nth: UInt64 = 1
  /// How many calls are hit; for `fullUntilTrimmed` how often the image gets full. Nil: no end.
  package var timesMax: UInt64?
  /// Of each call from the `nth` on, 0 to 1.
  package var probability = 1.0
  package var seed: UInt64 = 1
  package var effect = Effect.none
  /// Passes before the effect.
  package var delay: Duration?

  package init(text: String, kinds: Set<FileCall.Kind>) {
    self.text = text
    self.kinds = kinds
  }
}

extension FileCall.Kind {
  /// It gives storage back.
  var frees: Bool {
    switch self {
    case .punchHole, .discard: true
    case .read, .readCached, .write, .zeroRange, .allocate, .sync, .seekData, .seekHole, .mapExtents, .countCached,
      .willNeed, .pause:
      false
    }
  }

  /// It can be done in part.
  var hasLength: Bool {
    switch self {
    case .read, .readCached, .write, .punchHole, .zeroRange, .allocate, .discard: true
    case .sync, .seekData, .seekHole, .mapExtents, .countCached, .willNeed, .pause: false
    }
  }

  /// It changes the image, so that it can be left out.
  var changes: Bool {
    switch self {
    case .write, .punchHole, .zeroRange, .allocate, .discard, .sync: true
    case .read, .readCached, .seekData, .seekHole, .mapExtents, .countCached, .willNeed, .pause: false
    }
  }
}
