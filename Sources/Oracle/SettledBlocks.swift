// How far back the judge has to look for a READ that found zeroes.

/// For each stretch of blocks, when the last certain change that had ended by now was sent. Whatever had ended before
/// that is hidden by it.
struct SettledBlocks {
  private static let stretchBlocks = 8

  private let changes: [Operation]
  private var next = 0
  private var invoked: [UInt64]

  init(_ operations: [Operation]) {
    changes = operations.filter(\.isCertainChange).sorted { ($0.completed ?? .max) < ($1.completed ?? .max) }
    let blocks = operations.map(\.blocks.upperBound).max() ?? 0
    invoked = Array(repeating: 0, count: blocks / Self.stretchBlocks + 1)
  }

  /// Takes in what had ended at event `now`, which never goes back.
  mutating func advance(to now: UInt64) {
    while next < changes.count, let completed = changes[next].completed, completed < now {
      let change = changes[next]
      next += 1
      // Only stretches that it covers whole.
      let first = (change.blocks.lowerBound + Self.stretchBlocks - 1) / Self.stretchBlocks
      let end = change.blocks.upperBound / Self.stretchBlocks
      guard first < end else { continue }
      for stretch in first..<end { invoked[stretch] = max(invoked[stretch], change.invoked) }
    }
  }

  /// An event such that what had ended by then is hidden in each of these blocks.
  func since(_ blocks: Range<Int>) -> UInt64 {
    let first = blocks.lowerBound / Self.stretchBlocks
    let last = (blocks.upperBound - 1) / Self.stretchBlocks
    return invoked[first...last].min() ?? 0
  }
}
