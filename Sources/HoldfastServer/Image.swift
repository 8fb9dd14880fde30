// One inode that is served: its backend, the locks and tickets that all its users share, and the threads that block for it.

import BlockBackend
import EventLoops
import Locking
import NBDServerCore
import Synchronization
import Syscalls
import SystemPackage

/// Shared by all exports, windows and connections of one inode. Safe from any thread.
package final class Image: Sendable {
  package let backend: any BlockBackend
  package let guards: GuardSwitches

  /// No other image of this process has it, ever.
  let key = ImageKey(rawValue: Image.lastKey.wrappingAdd(1, ordering: .relaxed).newValue)
  private static let lastKey = Atomic<Int>(0)

  /// Short calls on it may run on a worker.
  let isLocal: Bool

  /// Lock order: a connection's `replies` and an image's `state` are never held together.
  let state: Locked<State>

  /// What blocks: cache misses, granted waiters. At most half of the slow lane, so that one hung image leaves the rest.
  private let slow: SlowLane.Queue
  /// Long TRIM and WRITE_ZEROES: one at a time, because `fallocate` serialises on the inode anyway.
  private let effects: SlowLane.Queue
  /// Syncs have a thread of their own.
  private let syncs: SlowLane.Queue

  /// Requests that workers execute on this image right now.
  private let inlineRunning = Atomic<Int>(0)
  private let inlineMax: Int

  /// Workers that wait for reads of this image right now.
  private let waiting = Atomic<Int>(0)
  private let waitingMax: Int

  private let ringReads = Atomic<Int>(0)

  let record: SyncErrorRecord

  let statistics: ImageStatistics

  /// The last sync took so little time that a client can wait for the next one before it reads on.
  private let syncsAreQuick = Atomic<Bool>(false)

  /// Where cold reads may be left to the kernel.
  let readDescriptor: Int32?

  struct State: ~Copyable {
    var core: ImageCore<Parked>
    var syncWaiters: [FlushTickets.WaiterID: Parked] = [:]
    var nextWaiter: FlushTickets.WaiterID = 0
    /// An operator clears the error of a failed sync.
    var isClearing = false
  }

  /// - Parameter record: of the inode; an error in it is latched here, too.
  package init(
    backend: any BlockBackend, lanes: Lanes, guards: GuardSwitches = .allStand,
    record: SyncErrorRecord = SyncErrorRecord()
  ) {
    self.backend = backend
    self.record = record
    isLocal = backend.capabilities.contains(.local)
    self.guards = guards
    state = Locked(State(core: ImageCore(geometry: backend.geometry, guards: guards, latched: record.error)))
    slow = lanes.slow.queue(runningMax: lanes.perImageMax)
    effects = lanes.slow.queue(runningMax: 1)
    syncs = lanes.makeSyncLane().queue(runningMax: 1)
    inlineMax = lanes.inlinePerImageMax
    waitingMax = lanes.waitingPerImageMax
    readDescriptor = backend.capabilities.contains(.local) ? backend.readDescriptor : nil
    statistics = lanes.statistics
    if let effects = backend.effects { statistics.attach(effects) }
  }

  deinit {
    if let effects = backend.effects { statistics.detach(effects) }
  }

  // MARK: On a worker

  /// A worker wants to make a short call on this image that waits for the disk in bad times.
  /// - Returns: false when half of the workers do so already: use the slow lane. True has to be followed by `endInline`.
  func beginInline() -> Bool {
    guard inlineRunning.add(1, ordering: .relaxed).newValue <= inlineMax else {
      endInline()
      return false
    }
    return true
  }

  func endInline() { inlineRunning.subtract(1, ordering: .relaxed) }

  /// A worker wants to wait for reads of this image.
  /// - Returns: false when so many do that a hung image would leave too few for the others. True has to be followed by
  ///   `endWaiting`.
  func beginWaiting() -> Bool {
    guard waiting.add(1, ordering: .relaxed).newValue <= waitingMax else {
      endWaiting()
      return false
    }
    return true
  }

  func endWaiting() { waiting.subtract(1, ordering: .relaxed) }

  func noteRingRead() { ringReads.add(1, ordering: .relaxed) }

  /// READs that went to an io_uring so far, for tests and status.
  package var ringReadCount: Int { ringReads.load(ordering: .relaxed) }

  // MARK: Range locks

  func admit(_ range: Range<UInt64>, _ mode: LockTableMode) -> Admission {
    state.withLock { $0.core.admit(range, mode) }
  }

  /// Hands a waiting request over; runs it at once when its lock came in the meantime.
  func park(_ job: Parked, behind token: LockToken) {
    if let granted = state.withLock({ $0.core.park(job, behind: token) }) { schedule([granted]) }
  }

  /// Takes back a waiting request that cannot be handed over.
  func abandon(_ token: LockToken) {
    var runnable: [Parked] = []
    state.withLock { $0.core.abandon(token, runnable: &runnable) }
    schedule(runnable)
  }

  /// After the last system call of a request.
  func finish(_ token: LockToken, mutated: Bool) {
    var runnable: [Parked] = []
    state.withLock { $0.core.finish(token, mutated: mutated, runnable: &runnable) }
    schedule(runnable)
  }

  /// The connection of these requests died: those that wait for a lock are cancelled, the others end by themselves (I6).
  func cancelWaiting(_ tokens: [LockToken]) {
    var runnable: [Parked] = []
    var cancelled: [Parked] = []
    state.withLock { state in
      for token in tokens {
        if let job = state.core.cancelWaiting(token, runnable: &runnable) { cancelled.append(job) }
      }
      #if GUARD_SWITCHES
      if !guards.stands(.deadKeepLocks) {
        for token in tokens { state.core.releaseEarly(token, runnable: &runnable) }
      }
      #endif
    }
    for job in cancelled { job.cancel() }
    schedule(runnable)
  }

  /// Runs those that have waited for their locks and hold them now.
  func schedule(_ granted: [Parked]) {
    guard !granted.isEmpty else { return }
    let now = MonotonicClock.nanoseconds
    for job in granted {
      if let queued = job.queuedNanoseconds { statistics.lockWaits.add(nanoseconds: now - queued) }
      schedule(job)
    }
  }

  /// Runs a request whose lock is held on the lane where it may block.
  func schedule(_ job: Parked) {
    switch job.lane {
    case .slow: slow.submit { job.run() }
    case .effects: effects.submit { job.run() }
    case .here: job.run()
    }
  }

  // MARK: Size

  /// Makes it larger, with the new bytes locked (I5). Its size is what it was until a sync has covered the new one: a client that was
  /// told of it will ask for it after a crash, too. A failed sync is latched (I7). Blocks for the disk.
  func grow(to sizeBytes: UInt64) throws(BackendError) {
    try lengthen(to: sizeBytes)
    try flush()
    backend.publish(sizeBytes: sizeBytes)
  }

  private func lengthen(to sizeBytes: UInt64) throws(BackendError) {
    let old = backend.geometry.sizeBytes
    guard sizeBytes > old else { throw BackendError(.invalidArgument) }
    switch admit(old..<sizeBytes, .exclusive) {
    case .waiting(let token):
      // Only another growth can be in the way.
      abandon(token)
      throw BackendError(.resourceBusy)
    case .granted(let token):
      defer { finish(token, mutated: true) }
      try backend.grow(to: sizeBytes)
    }
  }

  // MARK: Durability

  /// Everything that was replied to is durable already.
  var isDurable: Bool { state.withLock { $0.core.flush.isDurable } }

  /// The error of an earlier sync, which all later ones repeat (I7).
  package var latchedError: Errno? { state.withLock { $0.core.flush.latched } }

  /// Answers `job` when a sync has covered everything that was changed up to now.
  /// - Parameter workers: of the calling worker, when it has nothing else to do: it makes the sync itself if nobody is at it
  ///   and the last one was quick, while another worker may run in its place.
  func syncThenReply(_ job: consuming Job, onWorkerOf workers: WorkerPool<Work, Worker>? = nil) {
    syncThenAnswer(Parked(job), onWorkerOf: workers)
  }

  func syncThenAnswer(_ waiter: Parked, onWorkerOf workers: WorkerPool<Work, Worker>? = nil) {
    guard guards.stands(.replyAfterSync) else { return waiter.answer(nil) }
    let verdict = state.withLock { state in
      let id = state.nextWaiter
      state.nextWaiter += 1
      let verdict = state.core.flush.request(id)
      if case .waiting = verdict { state.syncWaiters[id] = waiter }
      return verdict
    }
    switch verdict {
    case .durable: waiter.answer(nil)
    case .failed(let errno): waiter.answer(errno)
    case .waiting(lead: false): break
    case .waiting(lead: true):
      guard let workers, syncsAreQuick.load(ordering: .relaxed), beginWaiting() else {
        return syncs.submit { while self.syncOnce() {} }
      }
      workers.willSleep()
      let again = syncOnce()
      workers.didWake()
      endWaiting()
      if again { syncs.submit { while self.syncOnce() {} } }
    }
  }

  /// The leader: one sync for all who wait. On the sync thread of the image, or on a worker.
  /// - Returns: whether others have come meanwhile.
  private func syncOnce() -> Bool {
    let covered = state.withLock { $0.core.flush.begin() }
    let start = MonotonicClock.nanoseconds
    let error = syncError()
    let taken = MonotonicClock.nanoseconds - start
    syncsAreQuick.store(taken < Limits.quickSyncNanosecondsMax, ordering: .relaxed)
    statistics.syncs.add(nanoseconds: taken)
    if error != nil { statistics.syncErrors.add(1, ordering: .relaxed) }
    var answered: [Parked] = []
    let again = state.withLock { state in
      let end = state.core.flush.end(covered: covered, error: error)
      if let latched = state.core.flush.latched { record.note(latched) }
      answered = end.answered.map { id in
        guard let job = state.syncWaiters.removeValue(forKey: id) else {
          preconditionFailure("who waits for a sync is known")
        }
        return job
      }
      return end.again
    }
    for waiter in answered { waiter.answer(error) }
    return again
  }

  private func syncError() -> Errno? {
    do throws(BackendError) {
      try backend.sync()
      return nil
    } catch { return error.errno }
  }

  /// The last sync of its last export, or of the process; its failure is latched like any other, because the kernel reports it once.
  /// The caller's thread waits.
  /// - Throws: also the error of an earlier sync.
  package func finalSync() throws(BackendError) {
    if let latched = latchedError { throw BackendError(latched) }
    guard backend.capabilities.contains(.writable) else { return }
    try flush()
  }

  /// Locks held and requests in the queue, for tests and status.
  package var lockCounts: (held: Int, waiting: Int) { state.withLock { ($0.core.heldCount, $0.core.waitingCount) } }

  /// The request of `token` stands in the queue.
  func isWaiting(_ token: LockToken) -> Bool { state.withLock { $0.core.isWaiting(token) } }
}
