// How much of a long TRIM or WRITE_ZEROES is done in one system call. fallocate holds the inode while it runs: whoever
// reads the same file waits, so one call should take about half a millisecond. Holes take next to nothing whatever
// their size, so more than 16 MiB in one call saves little, and data may begin anywhere behind them.

struct SliceSize {
  static let startBytes: UInt64 = 1 << 20
  static let minBytes: UInt64 = 256 << 10
  static let maxBytes: UInt64 = 16 << 20
  static let target = Duration.microseconds(500)

  private(set) var bytes = SliceSize.startBytes

  /// Where a slice from `offset` ends: on a multiple of `minBytes` but for the last one, so that no block is cut in two.
  func end(from offset: UInt64, limit: UInt64) -> UInt64 {
    guard limit - offset > bytes else { return limit }
    return (offset + bytes) & ~(Self.minBytes - 1)
  }

  /// A slice took so long: the next one shall come nearer to the target.
  mutating func adapt(to taken: Duration) {
    if taken < Self.target / 2 {
      bytes = min(bytes * 2, Self.maxBytes)
    } else if taken > Self.target * 2 {
      bytes = max(bytes / 2, Self.minBytes)
    }
  }
}
