// FLUSH and FUA of one image (I7): which sync covers whom, and what a failed one means for everybody after it.
//
//     mutation done ── bump ── its reply          ticket = generation when the reply may leave
//     leader: covered = generation ── fdatasync ── everyone with ticket <= covered is answered

import SystemPackage

/// The flush state of one inode. Pure; its owner excludes.
package struct FlushTickets: Sendable {
  /// Who waits for a sync.
  package typealias WaiterID = UInt64

  /// What a FLUSH or FUA has to do.
  package enum Verdict: Equatable {
    /// Everything it covers is durable: reply.
    case durable
    /// A sync has failed since the start of the process: reply EIO.
    case failed(Errno)
    /// Kept until a sync covers it. With `lead` the caller has to run `begin`, sync, `end`.
    case waiting(lead: Bool)
  }

  /// Counts mutations: bumped after the last system call of each, before its reply, on failure too.
  package private(set) var generation: UInt64 = 0

  /// What the last completed sync covers. None before the first: a predecessor that was killed had acknowledged writes.
  private var synced: UInt64?

  /// The error of a failed sync. A second `fsync` after a failed one succeeds and lies, so this one stays.
  package private(set) var latched: Errno?

  private var isSyncing = false
  private var waiters: [(ticket: UInt64, id: WaiterID)] = []
  private let latches: Bool

  /// - Parameters:
  ///   - latches: false takes the guard `syncErrorLatch` out.
  ///   - latched: the error of a sync that failed before.
  package init(latches: Bool = true, latched: Errno? = nil) {
    self.latches = latches
    self.latched = latches ? latched : nil
  }

  /// A mutation made its last system call.
  package mutating func bump() { generation += 1 }

  /// Asks for durability of everything up to now.
  package mutating func request(_ id: WaiterID) -> Verdict {
    if let latched { return .failed(latched) }
    if synced == generation { return .durable }
    waiters.append((generation, id))
    defer { isSyncing = true }
    return .waiting(lead: !isSyncing)
  }

  /// The leader is about to sync.
  /// - Returns: the generation that this sync covers, for `end`.
  package mutating func begin() -> UInt64 {
    precondition(isSyncing, "only the leader of waiting requests syncs")
    return generation
  }

  /// The sync returned.
  /// - Returns: who is answered by it, with its result, and whether the leader has to sync once more for those who came
  ///   while it ran.
  package mutating func end(covered: UInt64, error: Errno?) -> (answered: [WaiterID], again: Bool) {
    var answered: [WaiterID] = []
    if let error {
      if latches { latched = error }
      // Who waits for a later sync would be told a lie by it: the error reaches them as well.
      answered = waiters.map(\.id)
      waiters.removeAll()
    } else {
      synced = max(synced ?? 0, covered)
      answered = waiters.filter { $0.ticket <= covered }.map(\.id)
      waiters.removeAll { $0.ticket <= covered }
    }
    isSyncing = !waiters.isEmpty
    return (answered, isSyncing)
  }

  /// The operator says that the failed sync has been dealt with. What a sync covered before is not believed any more: the next
  /// FLUSH syncs.
  /// - Returns: the error that was latched; nil: there was none, and nothing changed.
  package mutating func clearLatch() -> Errno? {
    guard let error = latched else { return nil }
    latched = nil
    synced = nil
    return error
  }

  /// True when nothing was changed since the last completed sync.
  package var isDurable: Bool { latched == nil && synced == generation }
}
