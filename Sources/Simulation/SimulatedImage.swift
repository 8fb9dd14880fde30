// One inode that is served: the real image core (range lock, flush tickets) and the real plans, around a disk that is
// simulated. The order of a request is that of the daemon (Admission.swift, Job.swift, Image.swift in HoldfastServer): range
// lock, system calls, unlock, sync if asked, reply.

import BlockBackend
import NBDProtocol
import NBDServerCore
import RangeLocks
import SystemPackage

/// Whom the image tells.
protocol ImageOwner: AnyObject {
  func isAlive(_ connection: Int) -> Bool
  func ended(_ job: SimulatedJob, _ outcome: SimulatedJob.Outcome)
}

final class SimulatedImage {
  enum SyncPhase {
    case none
    /// The leader is about to begin.
    case due
    case running(generation: UInt64, versions: [Int])
  }

  private(set) var core: ImageCore<Int>
  var disk: SimulatedDisk
  let guards: GuardSwitches
  let shape: CallShape
  unowned let owner: any ImageOwner
  private let pool: PiecePool

  private(set) var jobs: [Int: SimulatedJob] = [:]
  /// In order of admission.
  private(set) var order: [Int] = []
  private var nextNumber = 0
  private var syncWaiters: [FlushTickets.WaiterID: Int] = [:]
  private var nextWaiter: FlushTickets.WaiterID = 0
  private(set) var sync = SyncPhase.none
  /// Who waits for a sync, and the generation that it has to cover.
  private(set) var tickets: [(ticket: UInt64, number: Int)] = []
  private var refused: Set<FileCall.Kind>
  /// Bumped when the lock table changes: it is checked once for each change.
  private(set) var lockChanges = 0

  init(
    disk: SimulatedDisk, guards: GuardSwitches, shape: CallShape, refused: Set<FileCall.Kind>, pool: PiecePool,
    owner: any ImageOwner
  ) {
    self.disk = disk
    self.guards = guards
    self.shape = shape
    self.refused = refused
    self.owner = owner
    self.pool = pool
    core = ImageCore(
      geometry: Geometry(sizeBytes: disk.sizeBytes, lockUnitBytes: UInt32(disk.sectorBytes)), guards: guards)
  }

  // MARK: Range locks

  func makeJob(
    _ request: Request, connection: Int, isInline: Bool, payload: [UInt8], encoder: ReplyEncoder, plan: ReadPlan
  ) -> SimulatedJob {
    nextNumber += 1
    let job = SimulatedJob(
      number: nextNumber, request, connection: connection, isInline: isInline, payload: payload, encoder: encoder,
      plan: plan)
    jobs[job.number] = job
    order.append(job.number)
    return job
  }

  func admit(_ request: Request) -> Admission {
    lockChanges += 1
    let mode: RangeLockTable.Mode =
      switch request.command.rule.lock {
      case .shared: .shared
      case .exclusive: .exclusive
      case .none: preconditionFailure("FLUSH and DISC lock nothing")
      }
    return core.admit(request.range, mode)
  }

  /// The job goes where its lock, or its place in the queue for one, lets it.
  func place(_ job: SimulatedJob, _ token: RangeLockTable.Token, isWaiting: Bool) {
    job.token = token
    if isWaiting {
      if core.park(job.number, behind: token) != nil { job.phase = .runnable }
    } else {
      job.phase = .runnable
    }
  }

  func abandon(_ token: RangeLockTable.Token) {
    lockChanges += 1
    var runnable: [Int] = []
    core.abandon(token, runnable: &runnable)
    schedule(runnable)
  }

  /// After the last system call of a request.
  func finish(_ token: RangeLockTable.Token, mutated: Bool) {
    lockChanges += 1
    var runnable: [Int] = []
    core.finish(token, mutated: mutated, runnable: &runnable)
    schedule(runnable)
  }

  /// The connection of these requests died: those that wait for a lock are cancelled, the others end by themselves (I6).
  func cancelWaiting(_ tokens: [RangeLockTable.Token]) {
    lockChanges += 1
    var runnable: [Int] = []
    var cancelled: [Int] = []
    for token in tokens {
      if let number = core.cancelWaiting(token, runnable: &runnable) { cancelled.append(number) }
    }
    #if GUARD_SWITCHES
    if !guards.stands(.deadKeepLocks) {
      let held = Set(jobs.values.filter { !cancelled.contains($0.number) }.compactMap(\.token))
      for token in tokens where held.contains(token) { core.releaseEarly(token, runnable: &runnable) }
    }
    #endif
    for number in cancelled {
      guard let job = jobs[number] else { preconditionFailure("a job that waits is known") }
      job.token = nil
      end(job, .dropped)
    }
    schedule(runnable)
  }

  private func schedule(_ numbers: [Int]) {
    for number in numbers { jobs[number]?.phase = .runnable }
  }

  // MARK: Execution

  /// A thread takes the job.
  func start(_ job: SimulatedJob) {
    // What had not started when its connection died is cancelled (I6).
    guard job.isInline || owner.isAlive(job.connection) else {
      unlock(job)
      return end(job, .dropped)
    }
    if job.request.command == .flush { return syncThenReply(job) }
    #if GUARD_SWITCHES
    if !guards.stands(.privateCopyOfReads), !job.isInline, job.request.command == .read {
      unlock(job)
      return end(job, .lent)
    }
    if !guards.stands(.layoutUnderLock), !job.isInline,
      job.request.command == .read || job.request.command == .blockStatus
    {
      unlock(job)
    }
    #endif
    do throws(BackendError) {
      job.execution = try Execution(
        job.request, payload: job.payload, encoder: job.encoder, plan: job.plan, pool: pool, shape: shape,
        fromCacheOnly: job.isInline)
    } catch {
      return fail(job, error)
    }
    goOn(job)
  }

  /// Up to the next system call, or the end.
  func goOn(_ job: SimulatedJob) {
    guard let execution = job.execution else { preconditionFailure("a job that runs has calls to make") }
    while true {
      do throws(BackendError) {
        switch try execution.next(isRefused: { refused.contains($0) }) {
        case .call(let call):
          job.phase = .calling(SystemCall(call: call))
          if call.kind == .seekData || call.kind == .seekHole { disk.fileOffset = call.offset }
        case .position(let offset):
          // It stays in this phase for one event: others may move the offset.
          disk.fileOffset = offset
          job.phase = .paused
        case .pause: job.phase = .paused
        case .done: return executed(job, execution)
        }
        return
      } catch {
        return fail(job, error)
      }
    }
  }

  /// The present call of `job` goes on.
  func fire(_ job: SimulatedJob, _ event: CallEvent, _ dice: inout Dice) {
    guard case .calling(var current) = job.phase, let execution = job.execution else {
      preconditionFailure("only a call that has begun goes on")
    }
    var errno: Errno?
    switch event {
    case .progresses(let bytes):
      apply(bytes, of: &current, execution)
      job.phase = .calling(current)
      return
    case .completes: apply(current.call.length - current.done, of: &current, execution)
    case .endsShort(let bytes): apply(bytes - current.done, of: &current, execution)
    case .fails(let error, let bytes):
      if bytes > current.done { apply(bytes - current.done, of: &current, execution) }
      errno = error
    case .pretends(let bytes): current.done = bytes
    }
    do throws(BackendError) {
      if let errno = errno ?? seekError(current.call) {
        if job.isInline && job.request.command == .read { return executed(job, execution) }
        let failure = try execution.failed(errno)
        if let kind = failure.refused { refused.insert(kind) }
        if failure.pauses {
          job.phase = .paused
          return
        }
      } else {
        try execution.completed(result(current), data: current.data)
      }
    } catch {
      return fail(job, error)
    }
    if job.isInline && job.request.command == .read { return executed(job, execution) }
    goOn(job)
  }

  private func result(_ current: SystemCall) -> UInt64 {
    switch current.call.kind {
    case .seekData:
      let found = disk.seekData(from: current.call.offset) ?? 0
      disk.fileOffset = found
      return found
    case .seekHole:
      let found = disk.seekHole(from: current.call.offset) ?? 0
      disk.fileOffset = found
      return found
    case .read, .readCached, .write, .punchHole, .zeroRange, .allocate, .discard, .sync, .mapExtents, .countCached,
      .willNeed, .pause:
      return current.done
    }
  }

  private func seekError(_ call: FileCall) -> Errno? {
    switch call.kind {
    case .seekData: disk.seekData(from: call.offset) == nil ? .noSuchAddressOrDevice : nil
    case .seekHole: disk.seekHole(from: call.offset) == nil ? .noSuchAddressOrDevice : nil
    case .read, .readCached, .write, .punchHole, .zeroRange, .allocate, .discard, .sync, .mapExtents, .countCached,
      .willNeed, .pause:
      nil
    }
  }

  /// The next `bytes` of a call take effect.
  private func apply(_ bytes: UInt64, of current: inout SystemCall, _ execution: Execution) {
    let start = Int(current.call.offset + current.done)
    let range = start..<start + Int(bytes)
    switch current.call.kind {
    case .read:
      guard guards.stands(.ownProbeDescriptor) else {
        let from = min(Int(disk.fileOffset), disk.seen.count)
        let to = min(from + range.count, disk.seen.count)
        current.data += disk.seen[from..<to]
        current.data += [UInt8](repeating: 0, count: range.count - (to - from))
        disk.fileOffset = UInt64(to)
        break
      }
      current.data += disk.seen[range]
    case .readCached: current.data += disk.seen[range]
    case .write:
      if execution.request.command == .writeZeroes {
        disk.write([UInt8](repeating: 0, count: range.count)[...], at: start)
      } else {
        let from = execution.payloadOffset(of: current.call) + Int(current.done)
        disk.write(execution.payload[from..<from + range.count], at: start)
      }
    case .punchHole, .discard: disk.zero(range, .hole)
    case .zeroRange: disk.zero(range, .unwritten)
    case .allocate: disk.allocate(range)
    case .sync, .seekData, .seekHole, .mapExtents, .countCached, .willNeed, .pause: break
    }
    current.done += bytes
  }

  /// The last system call has returned.
  private func executed(_ job: SimulatedJob, _ execution: Execution) {
    switch job.request.command {
    case .read where job.isInline:
      guard execution.isInlineReadComplete else { return end(job, .notCached) }
      unlock(job)
      end(job, .answered)
    case .read, .blockStatus:
      unlock(job)
      end(job, .answered)
    case .cache:
      unlock(job)
      end(job, .succeeded)
    case .write, .trim, .writeZeroes:
      unlock(job)
      guard job.request.flags.contains(.fua) else { return end(job, .succeeded) }
      // An inline job ends here for its worker; the owner asks for the sync.
      if job.isInline { return end(job, .succeeded) }
      syncThenReply(job)
    case .flush, .disconnect: preconditionFailure("these make no calls of their own")
    }
  }

  private func fail(_ job: SimulatedJob, _ error: BackendError) {
    unlock(job)
    end(job, .failed(error, inSync: false))
  }

  private func unlock(_ job: SimulatedJob) {
    guard let token = job.token.take() else { return }
    finish(token, mutated: job.request.command.rule.changesData)
  }

  private func end(_ job: SimulatedJob, _ outcome: SimulatedJob.Outcome) {
    job.phase = .ended
    jobs[job.number] = nil
    order.removeAll { $0 == job.number }
    owner.ended(job, outcome)
  }

  // MARK: Durability

  var isDurable: Bool { core.flush.isDurable }

  func syncThenReply(_ job: SimulatedJob) {
    guard guards.stands(.replyAfterSync) else { return end(job, .succeeded) }
    job.phase = .syncing
    let id = nextWaiter
    nextWaiter += 1
    switch core.flush.request(id) {
    case .durable: end(job, .succeeded)
    case .failed(let errno): end(job, .failed(BackendError(errno), inSync: true))
    case .waiting(let lead):
      syncWaiters[id] = job.number
      tickets.append((core.flush.generation, job.number))
      if lead { sync = .due }
    }
  }

  func beginSync() {
    sync = .running(generation: core.flush.begin(), versions: disk.beginSync())
  }

  /// - Parameter isLost: the disk says that it synced, and did not.
  func endSync(_ errno: Errno?, isLost: Bool = false, _ dice: inout Dice) {
    guard case .running(let generation, let versions) = sync else {
      preconditionFailure("only a sync that runs ends")
    }
    if errno != nil { disk.failSync(versions, &dice) } else if !isLost { disk.completeSync(versions) }
    let end = core.flush.end(covered: generation, error: errno)
    sync = end.again ? .due : .none
    let waiting = Set(syncWaiters.values).subtracting(end.answered.compactMap { syncWaiters[$0] })
    tickets.removeAll { !waiting.contains($0.number) }
    for id in end.answered {
      guard let number = syncWaiters.removeValue(forKey: id), let job = jobs[number] else {
        preconditionFailure("who waits for a sync is known")
      }
      if let errno {
        self.end(job, .failed(BackendError(errno), inSync: true))
      } else {
        self.end(job, .succeeded)
      }
    }
  }

  func checkInvariants() { core.checkInvariants() }
}
