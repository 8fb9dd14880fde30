// What a crash may not have lost: whatever FUA or a FLUSH had made durable, and nothing came after.

/// One FLUSH that succeeded.
package struct FlushRecord: Sendable {
  /// Event number from before it was sent.
  package var invoked: UInt64

  package init(invoked: UInt64) { self.invoked = invoked }
}

extension History {
  /// What the region holds after a crash, judged block by block: a block may hold what any change put there, unless a durable
  /// one certainly came after that. What came before what is what the judge knows, from the READs before the crash, too.
  ///
  /// - Parameters:
  ///   - found: the content of each block, from block 0 on.
  ///   - flushes: those that succeeded. Each made durable what had been replied to before it was sent.
  ///   - failedSyncs: moments at which a sync failed, and what was dirty then was given up: no FLUSH after it, of a new server
  ///     process, speaks for what was sent before it.
  /// - Returns: what was lost, or nil; and the durable changes that were looked for: in at least one block no other durable
  ///   one had replaced them.
  /// - Throws: what made the history impossible before the crash (`firstViolation`).
  package func firstLoss(
    found: [Run.Content], flushes: [FlushRecord], failedSyncs: [UInt64] = []
  ) throws(Violation) -> (violation: Violation?, durable: Set<UInt64>) {
    var judge = try Judge(operations)
    try judge.run()
    let survival = Survival(judge, blocks: found.count) { isDurable($0, flushes, failedSyncs) }
    return (survival.firstLoss(found), survival.wanted)
  }

  private func isDurable(_ change: Operation, _ flushes: [FlushRecord], _ failedSyncs: [UInt64]) -> Bool {
    guard change.succeeded, let completed = change.completed else { return false }
    if change.isFUA { return true }
    return flushes.contains { flush in
      flush.invoked > completed && !failedSyncs.contains { $0 > change.invoked && $0 < flush.invoked }
    }
  }
}

/// Which changes a crash may have left in which blocks.
private struct Survival {
  private let judge: Judge
  private let changes: [Int]
  private var isDurable: [Bool]
  /// For each block, the durable changes that no durable one certainly replaced.
  private var last: [[Int]]

  init(_ judge: Judge, blocks: Int, isDurable: (Operation) -> Bool) {
    self.judge = judge
    changes = judge.operations.indices.filter { judge.operations[$0].kind != .read }
    self.isDurable = judge.operations.map { $0.kind != .read && isDurable($0) }
    last = Array(repeating: [], count: blocks)
    for change in changes where self.isDurable[change] && judge.operations[change].isCertainChange {
      for block in judge.operations[change].blocks {
        if last[block].contains(where: { judge.order.isKnown(change, before: $0) }) { continue }
        last[block].removeAll { judge.order.isKnown($0, before: change) }
        last[block].append(change)
      }
    }
  }

  /// The ids of what was looked for.
  var wanted: Set<UInt64> { Set(last.joined().map { judge.operations[$0].id }) }

  func firstLoss(_ found: [Run.Content]) -> Violation? {
    var isAllowed = zip(found, last).map { $0 == .zero && $1.isEmpty }
    for change in changes {
      for block in judge.operations[change].blocks where !isAllowed[block] && mayLeave(change, found[block]) {
        isAllowed[block] = !last[block].contains { $0 != change && judge.order.isKnown(change, before: $0) }
      }
    }
    guard let lost = isAllowed.firstIndex(of: false) else { return nil }
    let ids = last[lost].map { judge.operations[$0].id }
    return Violation(
      description:
        "block \(lost) holds \(found[lost]) after the crash, but request \(ids.map(String.init).joined(separator: ", ")) "
        + "had been made durable",
      operations: ids)
  }

  private func mayLeave(_ index: Int, _ content: Run.Content) -> Bool {
    let change = judge.operations[index]
    switch content {
    case .zero: return change.kind != .write
    case .written(let id): return change.kind == .write && change.id == id
    // Half a block: the crash, or an error, cut it. What is durable was whole before.
    case .broken: return !isDurable[index]
    case .misplaced: return false
    }
  }
}
