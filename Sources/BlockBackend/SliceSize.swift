// How much of a long TRIM or WRITE_ZEROES is done in one system call. fallocate holds the inode while it runs: whoever
// reads the same file waits, so one call should take about half a millisecond. Holes take next to nothing whatever
// their size, so more than 16 MiB in one call saves little, and data may begin anywhere behind them.

package struct SliceSize: Sendable, Equatable {
  package static let startBytes: UInt64 = 1 << 20
  package static let minBytes: UInt64 = 256 << 10
  package static let maxBytes: UInt64 = 16 << 20
  package static let target = Duration.microseconds(500)

  package private(set) var bytes: UInt64
  private let least: UInt64
  private let most: UInt64

  /// - Parameter least: a power of two.
  package init(
    startBytes: UInt64 = SliceSize.startBytes, least: UInt64 = SliceSize.minBytes, most: UInt64 = SliceSize.maxBytes
  ) {
    bytes = startBytes
    self.least = least
    self.most = most
  }

  /// Where a slice from `offset` ends: on a multiple of the least slice but for the last one, so that no block is cut in two.
  package func end(from offset: UInt64, limit: UInt64) -> UInt64 {
    guard limit - offset > bytes else { return limit }
    return (offset + bytes) & ~(least - 1)
  }

  /// A slice took so long: the next one shall come nearer to the target.
  package mutating func adapt(to taken: Duration) {
    if taken < Self.target / 2 {
      bytes = min(bytes * 2, most)
    } else if taken > Self.target * 2 {
      bytes = max(bytes / 2, least)
    }
  }
}
