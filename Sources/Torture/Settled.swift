// What is in each block while nothing is in flight: the end of one epoch and the start of the next.

import Oracle

package struct Settled: Sendable {
  private static let broken = UInt64.max
  /// For each block the id of its WRITE, 0 for zeroes.
  private var ids: [UInt64]

  /// All zeroes.
  package init(blocks: Int) { ids = Array(repeating: 0, count: blocks) }

  package var blockCount: Int { ids.count }

  package mutating func set(_ run: Run) {
    let id: UInt64 =
      switch run.content {
      case .zero: 0
      case .written(let id): id
      case .broken: Settled.broken
      }
    for block in run.blocks { ids[block] = id }
  }

  /// Nil: neither zeroes nor a whole block.
  package func id(of block: Int) -> UInt64? { ids[block] == Settled.broken ? nil : ids[block] }

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
