// How much of a long TRIM or WRITE_ZEROES is done in one system call. fallocate holds the inode while it runs: whoever
// reads the same file waits, so one call should take about a quarter of a millisecond. Holes take next to nothing whatever
// their size, so more than 16 MiB in one call saves little, and data may begin anywhere behind them. A device or a server far
// away takes a while for each call, whatever its length, and no inode is held here: fewer and longer ones.

package struct SliceSize: Sendable, Equatable {
  package static let startBytes: UInt64 = 1 << 20
  package static let minBytes: UInt64 = 256 << 10
  package static let maxBytes: UInt64 = 16 << 20
  package static let target = Duration.microseconds(250)

  package private(set) var bytes: UInt64
  private let least: UInt64
  private let most: UInt64
  private let target: Duration

  /// - Parameter least: a power of two.
  package init(
    startBytes: UInt64 = SliceSize.startBytes, least: UInt64 = SliceSize.minBytes, most: UInt64 = SliceSize.maxBytes,
    target: Duration = SliceSize.target
  ) {
    bytes = max(startBytes, least)
    self.least = least
    self.most = max(most, least)
    self.target = target
  }

  /// For a file here, whose calls are short and whose blocks have `unitBytes`.
  package static func ofLocalFile(unitBytes: UInt64) -> SliceSize { SliceSize(least: max(minBytes, unitBytes)) }

  /// For a device, or a file on another machine.
  package static func ofDevice(unitBytes: UInt64) -> SliceSize {
    SliceSize(startBytes: 8 << 20, least: max(1 << 20, unitBytes), most: 1 << 30, target: .milliseconds(10))
  }

  /// Where a slice from `offset` ends: on a multiple of the least slice but for the last one, so that no block is cut in two.
  package func end(from offset: UInt64, limit: UInt64) -> UInt64 {
    guard limit - offset > bytes else { return limit }
    return (offset + bytes) & ~(least - 1)
  }

  /// A slice took so long: the next one shall come nearer to the target.
  package mutating func adapt(to taken: Duration) {
    if taken < target / 2 {
      bytes = min(bytes * 2, most)
    } else if taken > target * 2 {
      bytes = max(bytes / 2, least)
    }
  }
}
