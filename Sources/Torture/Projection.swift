// A history cut down to some of its blocks. What is impossible in a part is impossible in the whole.

import Oracle

/// Cuts the blocks of a history where any request or any run of a READ begins or ends. Between two cuts all blocks have the
/// same history:
///
///     WRITE 1   |=============|
///     READ 2         |==zero==|==by 1==|
///     segments  |  0 |   1    |   2    |
struct Projection {
  let operations: [Operation]
  private let cuts: [Int]

  init(_ operations: [Operation]) {
    self.operations = operations
    var cuts: Set<Int> = []
    for operation in operations {
      cuts.insert(operation.blocks.lowerBound)
      cuts.insert(operation.blocks.upperBound)
      for run in operation.seen { cuts.insert(run.blocks.upperBound) }
    }
    self.cuts = cuts.sorted()
  }

  var segmentCount: Int { max(0, cuts.count - 1) }

  func blocks(of segment: Int) -> Range<Int> { cuts[segment]..<cuts[segment + 1] }

  func segments(of blocks: Range<Int>) -> Range<Int> {
    position(of: blocks.lowerBound)..<position(of: blocks.upperBound)
  }

  private func position(of cut: Int) -> Int { firstIndex(in: cuts, notBelow: cut) }

  /// The history on `kept` alone (ascending), in which each segment is one block.
  func history(on kept: [Int]) -> [Operation] {
    var result: [Operation] = []
    for operation in operations {
      let segments = segments(of: operation.blocks)
      let first = firstIndex(in: kept, notBelow: segments.lowerBound)
      let end = firstIndex(in: kept, notBelow: segments.upperBound)
      guard first < end else { continue }
      result.append(cut(operation, to: kept, first..<end))
    }
    return result
  }

  /// For each segment, which of the operations touch it.
  func members() -> [[Int]] {
    var members = Array(repeating: [Int](), count: segmentCount)
    for (index, operation) in operations.enumerated() {
      for segment in segments(of: operation.blocks) { members[segment].append(index) }
    }
    return members
  }

  /// The history on one segment alone, of these operations, all of which touch it.
  func history(on segment: Int, of members: [Int]) -> [Operation] {
    members.map { cut(operations[$0], to: [segment], 0..<1) }
  }

  private func cut(_ operation: Operation, to kept: [Int], _ places: Range<Int>) -> Operation {
    var part = operation
    part.blocks = places
    part.seen = []
    guard !operation.seen.isEmpty else { return part }
    var run = 0
    for place in places {
      let block = cuts[kept[place]]
      while operation.seen[run].blocks.upperBound <= block { run += 1 }
      part.seen.append(Run(place..<place + 1, operation.seen[run].content))
    }
    return part
  }
}

private func firstIndex(in sorted: [Int], notBelow value: Int) -> Int {
  var low = 0
  var high = sorted.count
  while low < high {
    let middle = (low + high) / 2
    if sorted[middle] < value { low = middle + 1 } else { high = middle }
  }
  return low
}
