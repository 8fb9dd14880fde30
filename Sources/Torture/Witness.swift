// From an impossible history to the few requests that prove it: what can be left out is left out, and what remains is still
// impossible.

import Oracle

struct Minimizer {
  /// A witness is worth some judging, but not without end.
  private var judgementsLeft = 1000

  private mutating func isImpossible(_ operations: [Operation]) -> Bool {
    guard judgementsLeft > 0 else { return false }
    judgementsLeft -= 1
    return History(operations).firstViolation() != nil
  }

  /// - Parameter operations: an impossible history.
  /// - Returns: the ids of those of its requests that are impossible together.
  static func witness(of operations: [Operation]) -> [UInt64] {
    var minimizer = Minimizer()
    let onFewBlocks = minimizer.withFewerBlocks(operations)
    // Small by now, and quickly judged.
    minimizer.judgementsLeft = 4000
    return minimizer.withFewerRequests(onFewBlocks).sorted { $0.invoked < $1.invoked }.map(\.id)
  }

  private mutating func withFewerBlocks(_ operations: [Operation]) -> [Operation] {
    let projection = Projection(operations)
    guard let violation = History(operations).firstViolation() else { return operations }
    var kept = Array(0..<projection.segmentCount)
    if let reader = operations.first(where: { $0.id == violation.operations.first }) {
      let own = Array(projection.segments(of: reader.blocks))
      if isImpossible(projection.history(on: own)) { kept = own }
    }
    kept = reduced(kept) { minimizer, rest in
      !rest.isEmpty && minimizer.isImpossible(projection.history(on: rest))
    }
    return projection.history(on: kept)
  }

  private mutating func withFewerRequests(_ operations: [Operation]) -> [Operation] {
    let indices = reduced(Array(operations.indices)) { minimizer, rest in
      let part = rest.map { operations[$0] }
      return isFair(part, of: operations) && minimizer.isImpossible(part)
    }
    return indices.map { operations[$0] }
  }

  /// Leaves out what can be left out: halves first, then smaller pieces, at last single ones.
  private mutating func reduced(_ all: [Int], isEnough: (inout Minimizer, [Int]) -> Bool) -> [Int] {
    var kept = all
    var piece = max(1, kept.count / 2)
    while true {
      var start = 0
      var hasShrunk = false
      while start < kept.count, judgementsLeft > 0 {
        let end = min(start + piece, kept.count)
        let rest = Array(kept[..<start] + kept[end...])
        if isEnough(&self, rest) {
          kept = rest
          hasShrunk = true
        } else {
          start = end
        }
      }
      if judgementsLeft == 0 || (piece == 1 && !hasShrunk) { return kept }
      if !hasShrunk { piece = max(1, piece / 2) }
    }
  }
}

/// Whether `part` may stand for `whole`: nothing was left out that could explain what one of its READs found.
private func isFair(_ part: [Operation], of whole: [Operation]) -> Bool {
  let ids = Set(part.map(\.id))
  let leftOut = whole.filter { !ids.contains($0.id) && ($0.kind == .trim || $0.kind == .writeZeroes) }
  let cutOff = whole.filter { !ids.contains($0.id) && $0.kind != .read && !($0.succeeded && $0.completed != nil) }
  for read in part where read.kind == .read {
    for run in read.seen {
      switch run.content {
      case .misplaced: break
      case .broken:
        let end = read.completed ?? .max
        if cutOff.contains(where: { $0.invoked < end && $0.blocks.overlaps(run.blocks) }) { return false }
      case .written(let id): if !ids.contains(id) { return false }
      case .zero:
        for zeroer in leftOut where zeroer.invoked < (read.completed ?? .max) {
          for block in run.blocks.clamped(to: zeroer.blocks) where !isHidden(zeroer, at: block, from: read, by: part) {
            return false
          }
        }
      }
    }
  }
  return true
}

/// A WRITE of `part` came after the zeroer and before the READ, for certain.
private func isHidden(_ zeroer: Operation, at block: Int, from read: Operation, by part: [Operation]) -> Bool {
  guard let zeroed = zeroer.completed else { return false }
  return part.contains { write in
    guard write.kind == .write, write.succeeded, let written = write.completed else { return false }
    return write.blocks.contains(block) && zeroed < write.invoked && written < read.invoked
  }
}
