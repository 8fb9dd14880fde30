// The server of the target "server": admission, jobs, locks and syncs over a disk in memory, one step at a time, in the order
// that the input chooses. A call on the disk goes block by block, so that only the range lock keeps requests whole.

import BlockBackend
import NBDProtocol
import NBDServerCore
import Oracle
import SystemPackage

final class FuzzWorld {
  static let blocks = 16
  static let sizeBytes = UInt64(blocks * BlockStamp.blockBytes)

  /// A request that has left its worker.
  struct Job {
    enum State { case waiting, running, syncing }
    var line: FuzzLine
    var id: UInt64
    var request: Request
    var payload: [UInt8]
    var token: ImageCore<Int>.Token?
    var state = State.running
    var doneBytes = 0
    var data: [UInt8] = []
    /// When it had changed everything, or, for FLUSH, when it was received.
    var event: UInt64 = 0

    var blocks: Range<Int> {
      let first = Int(request.offset) / BlockStamp.blockBytes
      return first..<first + Int(request.length) / BlockStamp.blockBytes
    }
  }

  var core: ImageCore<Int>
  var jobs: [Int: Job] = [:]
  var lines: [FuzzLine] = []
  var history = History()
  var isShuttingDown = false

  let disk: MemoryBackend
  let pool = PiecePool()
  private let exports: ExportTable
  private let limits: Limits
  private var lastJob = 0
  private var lastID: UInt64 = 0
  private var event: UInt64 = 0

  // Syncs.
  private var durable = SparseBytes(pageBytes: 512)
  private var syncIsWanted = false
  private var syncRunning: (covered: UInt64, content: SparseBytes)?
  private var syncWaiters: [FlushTickets.WaiterID: Int] = [:]
  private var lastWaiter: FlushTickets.WaiterID = 0
  private var syncHasFailed = false
  /// When the last request that changed each block had done so.
  private var changed = [UInt64](repeating: 0, count: FuzzWorld.blocks)

  init(limits choice: UInt8, guards: GuardSwitches) {
    var limits = Limits()
    limits.requestsInFlightMax = 1 + Int(choice & 7)
    limits.sendQueuePauseBytes = 1024 << Int(choice >> 3 & 3)
    limits.sendQueueResumeBytes = limits.sendQueuePauseBytes / 2
    self.limits = limits
    let geometry = Geometry(sizeBytes: Self.sizeBytes, lockUnitBytes: choice & 32 == 0 ? 1 : 1024)
    disk = MemoryBackend(geometry: geometry, content: SparseBytes(pageBytes: 512))
    core = ImageCore(geometry: geometry, guards: guards)
    exports = ExportTable([
      ExportTable.Entry(name: "", isReadOnly: false, geometry: geometry, capabilities: .memory)
    ])
  }

  func nextID() -> UInt64 {
    lastID += 1
    return lastID
  }

  func nextEvent() -> UInt64 {
    event += 1
    return event
  }

  /// A new client, up to six at a time.
  func connect(isStructured: Bool, isReady: Bool) throws {
    if lines.count == 6 { lines.removeAll(where: \.hasClosed) }
    guard lines.count < 6 else { return }
    let line = FuzzLine(limits: limits, isStructured: isStructured, pool: pool)
    lines.append(line)
    guard isReady else { return }
    line.room = 1 << 20
    try deliver(line, bytes: .max)
  }

  // MARK: Bytes in

  func deliver(_ line: FuzzLine, bytes: Int) throws {
    guard line.replies.beginLease() else { return }
    let count = min(bytes, line.wire.count)
    line.inlet.push(line.wire[..<count])
    line.wire.removeFirst(count)
    try serve(line)
  }

  /// The lease holder: takes what has come, until the connection has to pause.
  private func serve(_ line: FuzzLine) throws {
    while true {
      if line.replies.life == .open {
        if line.replies.mustPause {
          if line.replies.pause() { return closeIfDone(line) }
          continue
        }
        let event = try line.inlet.next(exports, isShuttingDown: isShuttingDown)
        // The answers to options have a target of their own.
        line.inlet.output = []
        if let event {
          try take(event, of: line)
          continue
        }
        if line.hasEndOfStream && line.wire.isEmpty { line.replies.finish() }
      }
      _ = line.replies.endLease()
      return closeIfDone(line)
    }
  }

  private func take(_ event: Inlet.Event, of line: FuzzLine) throws {
    switch event {
    case .established(let session): line.becomeEstablished(session)
    case .request(let request, let payload): try admit(request, payload, of: line)
    case .refused(let refusal):
      let encoder = try line.encoder()
      try line.sendNow(self, encoded { encoder.encodeRefusal(refusal, into: &$0, at: 0) })
    case .disconnect, .close: line.replies.finish()
    case .violation: try die(line)
    }
  }

  private func admit(_ request: Request, _ payload: [UInt8], of line: FuzzLine) throws {
    if isShuttingDown { return try line.sendNow(self, try line.error(.shutdown, request)) }
    let isMutation = request.command.rule.changesData
    let isSync = request.command == .flush || (request.length == 0 && isMutation && request.flags.contains(.fua))
    if request.length == 0 && !isSync || isSync && core.flush.isDurable {
      if isSync { try checkDurable(since: event, blocks: 0..<Self.blocks) }
      return try line.sendNow(self, try line.success(request))
    }
    lastJob += 1
    var job = Job(line: line, id: line.replies.begin(), request: request, payload: payload)
    if isSync {
      job.event = nextEvent()
      return try wait(job, lastJob)
    }
    switch core.admit(request.range, request.command.rule.lock == .exclusive ? .exclusive : .shared) {
    case .granted(let token): job.token = token
    case .waiting(let token):
      job.token = token
      job.state = .waiting
      // A lock cannot be granted in between here.
      if core.park(lastJob, behind: token) != nil { job.state = .running }
    }
    if let token = job.token { line.replies.setToken(token, of: job.id) }
    jobs[lastJob] = job
  }

  // MARK: The disk

  /// Moves a running job on.
  func workOn(_ choice: UInt8, blocks: Int, failing error: Errno?) throws {
    let running = jobs.keys.filter { jobs[$0]?.state == .running }.sorted()
    guard !running.isEmpty else { return }
    try work(running[Int(choice) % running.count], blocks: blocks, failing: error)
  }

  private func work(_ number: Int, blocks: Int, failing error: Errno?) throws {
    guard var job = jobs[number] else { return }
    if job.doneBytes == 0, !job.line.isAlive { return try finish(job, number, reply: nil) }
    if let error { return try finish(job, number, reply: job.line.error(NBDError(error), job.request)) }
    for _ in 0..<blocks where job.doneBytes < Int(job.request.length) {
      try perform(&job)
      job.doneBytes += BlockStamp.blockBytes
    }
    jobs[number] = job
    guard job.doneBytes >= Int(job.request.length) else { return }
    if job.request.flags.contains(.fua), job.request.command.rule.changesData {
      unlock(&job)
      job.event = event
      return try wait(job, number)
    }
    try finish(job, number, reply: answer(job))
  }

  /// One block of a request.
  private func perform(_ job: inout Job) throws {
    let at = job.request.offset + UInt64(job.doneBytes)
    let block = at..<at + UInt64(BlockStamp.blockBytes)
    switch job.request.command {
    case .read:
      var bytes = [UInt8](repeating: 0xdd, count: BlockStamp.blockBytes)
      var span = bytes.mutableSpan
      var raw = span.mutableBytes
      try disk.read(into: &raw, at: at)
      job.data += bytes
    case .write:
      try disk.write(job.payload.rawBytes.extracting(job.doneBytes..<job.doneBytes + BlockStamp.blockBytes), at: at)
    case .writeZeroes:
      try disk.zero(block, job.request.flags.contains(.noHole) ? .noHole : [])
    case .trim:
      try disk.trim(block)
    case .cache, .blockStatus: job.doneBytes = Int(job.request.length)
    case .flush, .disconnect: throw Finding(description: "FLUSH and DISC have no blocks")
    }
  }

  private func answer(_ job: Job) throws -> [UInt8] {
    let (request, encoder) = (job.request, try job.line.encoder())
    switch request.command {
    case .read:
      return encoded {
        encoder.encodeReadHeader(
          cookie: request.cookie, offset: request.offset, dataBytes: request.length, into: &$0, at: 0)
      } + job.data
    case .blockStatus:
      var status = StatusDescriptors(request: request)
      for extent in try disk.extents(of: request.range, extentsMax: 8) {
        status.append(lengthBytes: extent.lengthBytes, status: extent.kind == .data ? [] : [.hole, .zero])
      }
      status.finish()
      return encoded {
        encoder.encodeBlockStatus(
          cookie: request.cookie, contextID: 1, descriptors: status.descriptors.span, into: &$0, at: 0)
      }
    case .write, .trim, .writeZeroes, .cache, .flush, .disconnect: return try job.line.success(request)
    }
  }

  private func unlock(_ job: inout Job) {
    guard let token = job.token.take() else { return }
    if job.request.command.rule.changesData {
      let now = nextEvent()
      for block in job.blocks { changed[block] = now }
    }
    var runnable: [Int] = []
    core.finish(token, mutated: job.request.command.rule.changesData, runnable: &runnable)
    start(runnable)
  }

  private func start(_ runnable: [Int]) { for number in runnable { jobs[number]?.state = .running } }

  private func finish(_ job: Job, _ number: Int, reply: [UInt8]?) throws {
    var job = job
    unlock(&job)
    jobs[number] = nil
    job.line.replies.end(job.id)
    if let reply { try job.line.queue(self, reply) }
    try wake(job.line)
  }

  // MARK: Syncs

  private func wait(_ job: Job, _ number: Int) throws {
    var job = job
    job.state = .syncing
    lastWaiter += 1
    switch core.flush.request(lastWaiter) {
    case .durable:
      try checkDurable(job)
      try finish(job, number, reply: job.line.success(job.request))
    case .failed: try finish(job, number, reply: job.line.error(.io, job.request))
    case .waiting(let leads):
      jobs[number] = job
      syncWaiters[lastWaiter] = number
      if leads { syncIsWanted = true }
    }
  }

  /// Begins a sync that is wanted, or ends the one that runs.
  func sync(fails: Bool) throws {
    guard let running = syncRunning.take() else {
      guard syncIsWanted else { return }
      syncRunning = (core.flush.begin(), disk.snapshot)
      syncIsWanted = false
      return
    }
    if fails { syncHasFailed = true } else { durable = running.content }
    let (answered, again) = core.flush.end(covered: running.covered, error: fails ? .ioError : nil)
    syncIsWanted = again
    for waiter in answered {
      guard let number = syncWaiters.removeValue(forKey: waiter), let job = jobs[number] else {
        throw Finding(description: "a sync answers who waits for it")
      }
      if !fails { try checkDurable(job) }
      try finish(job, number, reply: fails ? job.line.error(.io, job.request) : job.line.success(job.request))
    }
  }

  private func checkDurable(_ job: Job) throws {
    try checkDurable(since: job.event, blocks: job.blocks.isEmpty ? 0..<Self.blocks : job.blocks)
  }

  /// Whatever was changed before `event`, and not since, would survive a power cut.
  private func checkDurable(since event: UInt64, blocks: Range<Int>) throws {
    try demand(!syncHasFailed, "no sync succeeds after a failed one")
    let now = disk.snapshot
    let inWork = jobs.values.filter { $0.state == .running && $0.request.command.rule.changesData }
    for block in blocks where changed[block] <= event && !inWork.contains(where: { $0.blocks.contains(block) }) {
      try demand(content(now, block) == content(durable, block), "block \(block) is durable")
    }
  }

  private func content(_ bytes: SparseBytes, _ block: Int) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: BlockStamp.blockBytes)
    var span = result.mutableSpan
    var raw = span.mutableBytes
    bytes.read(into: &raw, at: UInt64(block * BlockStamp.blockBytes))
    return result
  }

  // MARK: Ends

  /// Room was made.
  func wake(_ line: FuzzLine) throws {
    if line.replies.wake() { return try serve(line) }
    closeIfDone(line)
  }

  func giveRoom(to line: FuzzLine, bytes: Int) throws {
    line.room += bytes
    guard line.isWatchedForWriting, bytes > 0 else { return }
    line.isWatchedForWriting = false
    if line.replies.becomesWritable() { try line.sendQueued(self) }
    try wake(line)
  }

  func endOfStream(_ line: FuzzLine) throws {
    line.hasEndOfStream = true
    line.hasSaidGoodbye = true
    try deliver(line, bytes: .max)
  }

  func die(_ line: FuzzLine) throws {
    line.hasSaidGoodbye = true
    guard let death = line.replies.die("the input says so") else { return }
    var runnable: [Int] = []
    for token in death.tokens {
      guard let number = core.cancelWaiting(token, runnable: &runnable), let job = jobs.removeValue(forKey: number)
      else {
        continue
      }
      job.line.replies.end(job.id)
    }
    start(runnable)
    closeIfDone(line)
  }

  private func closeIfDone(_ line: FuzzLine) { if line.replies.mayClose() { line.hasClosed = true } }
}

extension FuzzLine {
  func encoder() throws -> ReplyEncoder {
    guard let session else { throw Finding(description: "requests follow the handshake") }
    return ReplyEncoder(session: session)
  }

  func success(_ request: Request) throws -> [UInt8] {
    let encoder = try encoder()
    return encoded { encoder.encodeSuccess(cookie: request.cookie, into: &$0, at: 0) }
  }

  func error(_ error: NBDError, _ request: Request) throws -> [UInt8] {
    let encoder = try encoder()
    return encoded {
      encoder.encodeError(
        cookie: request.cookie, command: request.command, error: error, text: "the input says so", offset: nil,
        into: &$0,
        at: 0)
    }
  }
}

/// What `encode` writes.
func encoded(_ encode: (inout MutableRawSpan) -> Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 1024)
  var span = bytes.mutableSpan
  var raw = span.mutableBytes
  let count = encode(&raw)
  return Array(bytes[..<count])
}
