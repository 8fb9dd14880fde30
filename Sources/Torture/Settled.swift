// What is in each block while nothing is in flight: the end of one epoch and the start of the next.

import Oracle

package struct Settled: Sendable {
  private static let broken = UInt64.max
  /// For each block the id of its WRITE, 0 for zeroes.
  private var ids: [UInt64]
  private var trimmed: [Bool]

  /// All zeroes.
  package init(blocks: Int) {
    ids = Array(repeating: 0, count: blocks)
    trimmed = Array(repeating: false, count: blocks)
  }

  package var blockCount: Int { ids.count }

  package mutating func set(_ run: Run) {
    let id: UInt64 =
      switch run.content {
      case .zero: 0
      case .written(let id): id
      case .broken, .misplaced: Settled.broken
      }
    for block in run.blocks { ids[block] = id }
  }

  /// Nil: neither zeroes nor a whole block.
  package func id(of block: Int) -> UInt64? { ids[block] == Settled.broken ? nil : ids[block] }

  /// Whether the block is under a TRIM: it may hold something else when it is read again.
  package func isTrimmed(_ block: Int) -> Bool { trimmed[block] }

  /// - Parameter trimmed: for each block.
  package mutating func setTrimmed(_ trimmed: [Bool]) {
    precondition(trimmed.count == ids.count, "a word about each block")
    self.trimmed = trimmed
  }

  /// These blocks have been overwritten with zeroes.
  package mutating func reset(_ blocks: Range<Int>) {
    for block in blocks { (ids[block], trimmed[block]) = (0, false) }
  }

  /// Neighbouring blocks with the same content that is not zero; nil for an id: broken.
  package var writtenRuns: [(blocks: Range<Int>, id: UInt64?)] {
    var runs: [(Range<Int>, UInt64?)] = []
    var start = 0
    while start < ids.count {
      var end = start + 1
      while end < ids.count, ids[end] == ids[start] { end += 1 }
      if ids[start] != 0 { runs.append((start..<end, id(of: start))) }
      start = end
    }
    return runs
  }
}
