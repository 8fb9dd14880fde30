// What the requests of one inode share: the range lock (I5) and the flush tickets (I7). Pure; one mutex around it, held for
// the time of a tree operation, never during I/O.

import BlockBackend
import NBDProtocol
import RangeLocks
import SystemPackage

/// A lock, or the place in the queue for one.
package enum Admission {
  case granted(RangeLockTable.Token)
  case waiting(RangeLockTable.Token)
}

/// The shared state of one inode. `Work` is what waits for a lock; it comes back when the lock is granted.
package struct ImageCore<Work: Sendable>: ~Copyable {
  package typealias Token = RangeLockTable.Token

  /// Who waits for a lock, from the moment it stands in the queue.
  private enum Waiter {
    /// The request is being moved out of its worker.
    case preparing
    /// The lock came before `Work` did.
    case grantedEarly
    case ready(Work)
  }

  private var locks = RangeLockTable()
  private var waiters: [Token: Waiter] = [:]
  private var grantedTokens: [Token] = []
  private let lockUnitBytes: UInt64
  private let lockRanges: Bool
  package var flush: FlushTickets

  /// - Parameter latched: the error of an earlier sync.
  package init(geometry: Geometry, guards: GuardSwitches = .allStand, latched: Errno? = nil) {
    lockUnitBytes = UInt64(geometry.lockUnitBytes)
    lockRanges = guards.stands(.rangeLock)
    flush = FlushTickets(latches: guards.stands(.syncErrorLatch), latched: latched)
  }

  /// The range rounded outward to the unit that the backend touches as a whole (the effective range).
  package func effectiveRange(_ range: Range<UInt64>) -> Range<UInt64> {
    // No overflow: a range was validated against the size of an image, which is below 2^63.
    let lower = range.lowerBound / lockUnitBytes * lockUnitBytes
    let upper = (range.upperBound + lockUnitBytes - 1) / lockUnitBytes * lockUnitBytes
    return lower..<upper
  }

  /// Queues for the effective range of a request, in arrival order. A waiting request has to be handed over with `park`.
  package mutating func admit(_ range: Range<UInt64>, _ mode: RangeLockTable.Mode) -> Admission {
    // Without the guard all are readers, so that nobody waits.
    let (token, isGranted) = locks.acquire(effectiveRange(range), lockRanges ? mode : .shared)
    if isGranted { return .granted(token) }
    prepareToWait(token)
    return .waiting(token)
  }

  /// Apart from `admit`, which would otherwise look up the type of a waiter each time.
  @inline(never)
  private mutating func prepareToWait(_ token: Token) { waiters[token] = .preparing }

  /// Hands over the request that waits behind `token`.
  /// - Returns: `work` again when its lock has been granted meanwhile: the caller runs it.
  package mutating func park(_ work: Work, behind token: Token) -> Work? {
    switch waiters[token] {
    case .preparing:
      waiters[token] = .ready(work)
      return nil
    case .grantedEarly:
      waiters[token] = nil
      return work
    case .ready, nil: preconditionFailure("a waiter is handed over once")
    }
  }

  /// Gives up the place of a request that was admitted as waiting and will not be handed over.
  package mutating func abandon(_ token: Token, runnable: inout [Work]) {
    switch waiters.removeValue(forKey: token) {
    case .preparing: locks.cancel(token, granted: &grantedTokens)
    case .grantedEarly: locks.release(token, granted: &grantedTokens)
    case .ready, nil: preconditionFailure("only a request that was not handed over can be abandoned")
    }
    collectGranted(into: &runnable)
  }

  /// Takes a waiting request out of the queue, for a dead connection (I6).
  /// - Returns: its work; nil when it holds its lock already, or is on its way: then it ends by itself.
  package mutating func cancelWaiting(_ token: Token, runnable: inout [Work]) -> Work? {
    guard case .ready(let work) = waiters[token] else { return nil }
    waiters[token] = nil
    locks.cancel(token, granted: &grantedTokens)
    collectGranted(into: &runnable)
    return work
  }

  /// The last system call of a request has returned, with success or not: unlocks, and counts a mutation.
  /// `runnable` gets the work that holds its lock now, in arrival order.
  package mutating func finish(_ token: Token, mutated: Bool, runnable: inout [Work]) {
    if mutated { flush.bump() }
    #if GUARD_SWITCHES
    if releasedEarly.remove(token) != nil { return }
    #endif
    locks.release(token, granted: &grantedTokens)
    if !grantedTokens.isEmpty { collectGranted(into: &runnable) }
  }

  #if GUARD_SWITCHES
  private var releasedEarly: Set<Token> = []

  /// What the guard `deadKeepLocks` prevents: the lock of an operation that still runs is given away.
  package mutating func releaseEarly(_ token: Token, runnable: inout [Work]) {
    guard waiters[token] == nil else { return }
    releasedEarly.insert(token)
    locks.release(token, granted: &grantedTokens)
    collectGranted(into: &runnable)
  }
  #endif

  @inline(never)
  private mutating func collectGranted(into runnable: inout [Work]) {
    for token in grantedTokens {
      switch waiters[token] {
      case .preparing: waiters[token] = .grantedEarly
      case .ready(let work):
        waiters[token] = nil
        runnable.append(work)
      case .grantedEarly, nil: preconditionFailure("a lock is granted once, to one that waits")
      }
    }
    grantedTokens.removeAll(keepingCapacity: true)
  }

  /// The request stands in the queue. Any token, also one of the past.
  package func isWaiting(_ token: Token) -> Bool { waiters[token] != nil }

  /// Locks held and requests in the queue.
  package var heldCount: Int { locks.heldCount }
  package var waitingCount: Int { locks.waitingCount }

  package func checkInvariants() { locks.checkInvariants() }
}
