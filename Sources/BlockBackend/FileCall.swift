// The calls that a file backend makes on its image, as data: what hooks look at, fault rules match and simulated disks answer.

import SystemPackage

/// One call that is about to be made.
package struct FileCall: Sendable, Equatable {
  package enum Kind: Sendable, CaseIterable {
    case read, readCached, write, punchHole, zeroRange, allocate, discard, sync, seekData, seekHole, mapExtents,
      countCached, willNeed, pause
  }
  package var kind: Kind
  /// Offset in the image, bytes.
  package var offset: UInt64
  /// Bytes asked for; 0 where the call has no length, the number of the attempt for `pause`.
  package var length: UInt64

  package init(kind: Kind, offset: UInt64, length: UInt64) {
    self.kind = kind
    self.offset = offset
    self.length = length
  }
}

/// What a hook makes of a call.
package enum FileCallAnswer: Sendable, Equatable {
  case perform
  /// Only the first bytes: a short count.
  case performOnly(bytes: UInt64)
  case fail(Errno)
  /// Not performed, but this is its result (bytes done; a position for the seeks).
  case pretend(UInt64)
  /// Time passes first. Who asks lets it pass: a hook knows no clock.
  indirect case delay(Duration, then: FileCallAnswer)
}
