// What a crash may not have lost: whatever FUA or a FLUSH had made durable, and nothing came after.

/// One FLUSH that succeeded.
package struct FlushRecord: Sendable {
  /// Event number from before it was sent.
  package var invoked: UInt64

  package init(invoked: UInt64) { self.invoked = invoked }
}

extension History {
  /// What the region holds after a crash, judged block by block: a block may hold what any change put there, unless a durable
  /// one surely came after that.
  ///
  /// - Parameters:
  ///   - found: the content of each block, from block 0 on.
  ///   - flushes: those that succeeded. Each made durable what had been replied to before it was sent.
  ///   - failedSyncs: moments at which a sync failed, and what was dirty then was given up: no FLUSH after it, of a new server
  ///     process, speaks for what was sent before it.
  /// - Returns: what was lost, or nil; and how many changes were durable.
  package func firstLoss(
    found: [Run.Content], flushes: [FlushRecord], failedSyncs: [UInt64] = []
  ) -> (violation: Violation?, durableCount: Int) {
    let changes = operations.filter { $0.kind != .read }
    let durability = changes.map { isDurable($0, flushes, failedSyncs) }
    /// When the last durable change of a block was sent.
    var durableSince = [UInt64](repeating: 0, count: found.count)
    var durableIDs = [UInt64](repeating: 0, count: found.count)
    var allowsZero = [Bool](repeating: true, count: found.count)
    for (change, isDurable) in zip(changes, durability) where isDurable && change.isCertainChange {
      for block in change.blocks {
        allowsZero[block] = false
        if durableSince[block] < change.invoked {
          durableSince[block] = change.invoked
          durableIDs[block] = change.id
        }
      }
    }
    var isAllowed = zip(found, allowsZero).map { $0 == .zero && $1 }
    for change in changes {
      for block in change.blocks where !isAllowed[block] && durableSince[block] <= change.completed ?? .max {
        switch found[block] {
        case .zero: isAllowed[block] = change.kind != .write
        case .written(let id): isAllowed[block] = change.kind == .write && change.id == id
        // Half a block: the crash, or an error, cut it.
        case .broken: isAllowed[block] = true
        }
      }
    }
    let durableCount = durability.count { $0 }
    guard let lost = isAllowed.firstIndex(of: false) else { return (nil, durableCount) }
    let violation = Violation(
      description:
        "block \(lost) holds \(found[lost]) after the crash, but request \(durableIDs[lost]) had been made durable",
      operations: [durableIDs[lost]])
    return (violation, durableCount)
  }

  private func isDurable(_ change: Operation, _ flushes: [FlushRecord], _ failedSyncs: [UInt64]) -> Bool {
    guard change.succeeded, let completed = change.completed else { return false }
    if change.isFUA { return true }
    return flushes.contains { flush in
      flush.invoked > completed && !failedSyncs.contains { $0 > change.invoked && $0 < flush.invoked }
    }
  }
}
