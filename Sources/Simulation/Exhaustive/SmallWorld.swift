// Two clients, at most three requests, three blocks of a byte each: small enough to try everything. The image is the one of
// the other mode: real range locks, flush tickets and plans; a system call touches one block.

import BlockBackend
import NBDProtocol
import NBDServerCore

final class SmallWorld: ImageOwner {
  enum Choice: Equatable {
    /// The next request of this client is received.
    case invoke(client: Int)
    /// The present system call of this request takes effect and returns.
    case call(request: Int)
    case syncBegins
    case syncEnds
    /// The same with EIO.
    case callFails(request: Int)
    case syncFails
  }

  private struct State {
    var invoked = 0
    var completed = 0
    var failed = false
    /// What it has learned so far: with the request itself, all that its further way depends on.
    var transcript: [UInt8] = []
    /// What a READ found, a byte for each block; what a status said to read as zeroes, and `unsaid`.
    var seen: [UInt8] = []
    /// A call of it has failed.
    var mayFail = false
  }

  private static let unsaid: UInt8 = 255

  private let workload: Exploration.Workload
  private let requests: [Exploration.SmallRequest]
  private let firstOfClient: [Int]
  private var next: [Int]
  private var states: [State]
  private var jobs: [SimulatedJob?]
  private var clock = 0
  private var dice = Dice(seed: 0)
  private var servedImage: SimulatedImage?
  private(set) var finding: String?
  private var failuresLeft: Int
  /// 0: none has.
  private var syncFailedAt = 0

  private var image: SimulatedImage {
    guard let servedImage else { preconditionFailure("a world has an image") }
    return servedImage
  }

  init(_ workload: Exploration.Workload, _ pool: PiecePool, _ guards: GuardSwitches) {
    self.workload = workload
    failuresLeft = workload.failures
    requests = workload.requests
    firstOfClient = [0, workload.clients[0].count]
    next = firstOfClient
    states = [State](repeating: State(), count: requests.count)
    jobs = [SimulatedJob?](repeating: nil, count: requests.count)
    let size = UInt64(Exploration.blockCount)
    let shape = CallShape(
      transferBytesMax: 1,
      medium: EffectPlan.Medium(
        sizeBytes: size, trimUnitBytes: 1, isBlockDevice: false, slice: SliceSize(startBytes: 1, least: 1, most: 1)),
      guards: guards)
    servedImage = SimulatedImage(
      disk: SimulatedDisk(sectorCount: Exploration.blockCount, sectorBytes: 1, keepsVersions: true), guards: guards,
      shape: shape, refused: [], pool: pool, owner: self)
  }

  // MARK: What may happen

  /// In an order that depends on the state alone.
  var choices: [Choice] {
    var choices: [Choice] = []
    for client in 0..<2 where next[client] < firstOfClient[client] + workload.clients[client].count {
      choices.append(.invoke(client: client))
    }
    for (index, job) in jobs.enumerated() {
      guard let job, case .calling = job.phase else { continue }
      choices.append(.call(request: index))
      if failuresLeft > 0 { choices.append(.callFails(request: index)) }
    }
    switch image.sync {
    case .none: break
    case .due: choices.append(.syncBegins)
    case .running:
      choices.append(.syncEnds)
      if failuresLeft > 0 { choices.append(.syncFails) }
    }
    return choices
  }

  func perform(_ choice: Choice) {
    switch choice {
    case .invoke(let client):
      let index = next[client]
      next[client] += 1
      invoke(index)
    case .call(let index):
      guard let job = jobs[index], case .calling(let current) = job.phase else {
        preconditionFailure("only a call that has begun ends")
      }
      note(current, of: index)
      image.fire(job, .completes, &dice)
    case .syncBegins: image.beginSync()
    case .syncEnds: image.endSync(nil, &dice)
    case .callFails(let index): failCall(of: index)
    case .syncFails: failSync()
    }
    startGranted()
  }

  private func failCall(of index: Int) {
    guard let job = jobs[index] else { preconditionFailure("only a call that has begun fails") }
    failuresLeft -= 1
    states[index].mayFail = true
    states[index].transcript.append(SmallWorld.unsaid)
    image.fire(job, .fails(.ioError, after: 0), &dice)
  }

  /// What the sync did not write may still be written, or never be: the crash states after it are those before it.
  private func failSync() {
    failuresLeft -= 1
    syncFailedAt = tick()
    let disk = image.disk
    image.endSync(.ioError, &dice)
    image.disk = disk
  }

  private func tick() -> Int {
    clock += 1
    return clock
  }

  private func invoke(_ index: Int) {
    let small = requests[index]
    states[index].invoked = tick()
    let request = Request(
      command: small.command, flags: small.flags, cookie: UInt64(index), offset: UInt64(small.blocks.lowerBound),
      length: UInt32(small.blocks.count))
    let plan = ReadPlan(findsHoles: !small.flags.contains(.dontFragment), holeBytesMin: 1)
    let payload = small.command == .write ? small.blocks.map { SmallWorld.stamp(index, $0) } : []
    let job = image.makeJob(
      request, connection: index, isInline: false, payload: payload, encoder: ReplyEncoder(mode: .structured),
      plan: plan)
    jobs[index] = job
    guard small.command != .flush else { return image.syncThenReply(job) }
    switch image.admit(request) {
    case .granted(let token): image.place(job, token, isWaiting: false)
    case .waiting(let token): image.place(job, token, isWaiting: true)
    }
  }

  /// What this WRITE puts into the block: no other block of it gets the same.
  private static func stamp(_ index: Int, _ block: Int) -> UInt8 { UInt8(index + 1 + 16 * block) }

  /// A thread takes what has its lock at once: nothing happens in it before its first system call.
  private func startGranted() {
    for job in jobs {
      guard let job, case .runnable = job.phase else { continue }
      image.start(job)
    }
  }

  private func note(_ current: SystemCall, of index: Int) {
    let offset = Int(current.call.offset)
    let learned: UInt8
    switch current.call.kind {
    case .read: learned = image.disk.seen[offset]
    case .seekData: learned = UInt8(image.disk.seekData(from: current.call.offset) ?? 9)
    case .seekHole: learned = UInt8(image.disk.seekHole(from: current.call.offset) ?? 9)
    case .readCached, .write, .punchHole, .zeroRange, .allocate, .discard, .sync, .mapExtents, .countCached, .willNeed,
      .pause:
      learned = 0
    }
    states[index].transcript.append(learned)
  }

  // MARK: For the image

  func isAlive(_ connection: Int) -> Bool { true }

  func ended(_ job: SimulatedJob, _ outcome: SimulatedJob.Outcome) {
    let index = job.connection
    states[index].completed = tick()
    let needsSync = requests[index].needsSync
    switch outcome {
    case .succeeded:
      if needsSync, syncFailedAt > 0, states[index].invoked > syncFailedAt {
        finding = "request \(index) succeeded after a sync had failed (I7)"
      }
    case .answered: requests[index].command == .read ? takeReply(job, index) : takeStatus(job, index)
    case .failed(let error, let inSync):
      states[index].failed = true
      // FAST_ZERO can always be kept.
      let isHonest = inSync ? needsSync && syncFailedAt > 0 : states[index].mayFail
      if !isHonest || error.errno != .ioError { finding = "request \(index) failed: \(error)" }
    case .notCached, .lent, .dropped: finding = "request \(index) was not answered"
    }
  }

  private func takeReply(_ job: SimulatedJob, _ index: Int) {
    guard let reply = job.execution?.reply.take() else {
      finding = "READ \(index) has no reply"
      return
    }
    var bytes: [UInt8] = []
    while bytes.count < reply.count { bytes += [UInt8](copying: reply.bytes(from: bytes.count)) }
    var seen: [UInt8] = []
    var at = 0
    while at + 28 <= bytes.count {
      let payload = Int(bytes[at + 19])
      if bytes[at + 7] == UInt8(ReplyType.offsetHole.rawValue) {
        seen += [UInt8](repeating: 0, count: Int(bytes[at + 31]))
      } else {
        seen += bytes[(at + 28)..<(at + 20 + payload)]
      }
      at += 20 + payload
    }
    if seen.count != requests[index].blocks.count { finding = "READ \(index) got \(seen.count) bytes" }
    states[index].seen = seen
  }

  private func takeStatus(_ job: SimulatedJob, _ index: Int) {
    for extent in job.execution?.extents ?? [] {
      let said: UInt8 = extent.kind == .data ? SmallWorld.unsaid : 0
      states[index].seen += [UInt8](repeating: said, count: Int(extent.lengthBytes))
    }
    if states[index].seen.count != requests[index].blocks.count {
      finding = "BLOCK_STATUS \(index) speaks of \(states[index].seen.count) bytes"
    }
  }

  // MARK: Judgement

  private func precedes(_ one: Int, _ other: Int) -> Bool {
    states[one].completed > 0 && states[other].invoked > 0 && states[one].completed < states[other].invoked
  }

  /// FUA or a FLUSH has made the change durable.
  private func isDurable(_ index: Int) -> Bool {
    guard states[index].completed > 0, !states[index].failed else { return false }
    if requests[index].flags.contains(.fua) { return true }
    return requests.indices.contains { other in
      let isFlush = requests[other].command == .flush && states[other].completed > 0 && !states[other].failed
      return isFlush && precedes(index, other)
    }
  }

  /// How many contents a power cut may leave now; and what would be lost, if one of them loses anything. Which blocks may hold
  /// what does not depend on other blocks, so each is judged by itself.
  func crashStates() -> (count: Int, loss: String?) {
    var count = 1
    for block in 0..<Exploration.blockCount {
      let possible = Set([image.disk.durable[block]] + image.disk.versions[block])
      count *= possible.count
      let changes = requests.indices.filter {
        requests[$0].command.rule.changesData && requests[$0].blocks.contains(block) && states[$0].invoked > 0
      }
      let lasting = changes.filter { requests[$0].command != .trim && isDurable($0) }
      for value in possible {
        let isInitial = value == 0 && lasting.isEmpty
        let isAllowed = changes.contains { change in
          let leaves = requests[change].command == .write ? SmallWorld.stamp(change, block) : 0
          return leaves == value && !lasting.contains { precedes(change, $0) }
        }
        if !isInitial && !isAllowed {
          return (count, "after a power cut block \(block) may hold \(value), and \(lasting) were durable (I7)")
        }
      }
    }
    return (count, nil)
  }

  /// Everything is answered: is there an order of the requests, one after the other, that explains it?
  func conclusion() -> String? {
    if let open = states.firstIndex(where: { $0.completed == 0 }) { return "request \(open) is never answered" }
    image.checkInvariants()
    let none = Exploration.blockCount
    let content = [Set<UInt8>](repeating: [0], count: none)
    if explains([], content) { return nil }
    return "no order of the requests explains what was seen (I5): \(states.map(\.seen)), left \(image.disk.seen)"
  }

  /// - Parameter content: what each block may hold after the requests `done`: a TRIM leaves it open.
  private func explains(_ done: [Int], _ content: [Set<UInt8>]) -> Bool {
    guard done.count < requests.count else {
      return zip(content, image.disk.seen).allSatisfy { $0.contains($1) }
    }
    for index in requests.indices where !done.contains(index) {
      guard !requests.indices.contains(where: { !done.contains($0) && precedes($0, index) }) else { continue }
      var after = content
      var isPossible = true
      for (position, block) in requests[index].blocks.enumerated() {
        let leaves: UInt8
        switch requests[index].command {
        case .write: leaves = SmallWorld.stamp(index, block)
        case .writeZeroes, .trim: leaves = 0
        case .read, .blockStatus:
          guard !states[index].failed, states[index].seen[position] != SmallWorld.unsaid else { continue }
          isPossible = isPossible && after[block].contains(states[index].seen[position])
          after[block] = [states[index].seen[position]]
          continue
        case .flush, .disconnect, .cache: continue
        }
        let isCertain = requests[index].command != .trim && !states[index].failed
        if isCertain { after[block] = [leaves] } else { after[block].insert(leaves) }
      }
      if isPossible && explains(done + [index], after) { return true }
    }
    return false
  }

  /// All that the future depends on, and all that the judgement does.
  var key: [UInt8] {
    var key: [UInt8] = []
    let disk = image.disk
    key.append(contentsOf: disk.seen)
    key.append(contentsOf: disk.durable)
    for block in 0..<Exploration.blockCount {
      key.append(UInt8(disk.versions[block].count))
      key.append(contentsOf: disk.versions[block])
      key.append(disk.places[block].rawValue)
    }
    for (index, state) in states.enumerated() {
      key.append(state.completed > 0 ? 2 : state.invoked > 0 ? 1 : 0)
      key.append(UInt8(state.transcript.count))
      key.append(contentsOf: state.transcript)
      key.append(jobs[index].map(phase) ?? 0)
      key.append((state.failed ? 1 : 0) | (state.mayFail ? 2 : 0))
      key.append(contentsOf: state.seen)
      var order: UInt8 = 0
      for other in states.indices where precedes(index, other) { order |= 1 << UInt8(other) }
      key.append(order)
    }
    key.append(UInt8(failuresLeft))
    key.append(UInt8(states.indices.reduce(0) { $0 | (states[$1].invoked > syncFailedAt ? 1 << $1 : 0) }))
    key.append(syncFailedAt > 0 ? 1 : 0)
    // Who stands before whom in the lock table and among those who wait for a sync.
    for number in image.order { key.append(UInt8(number)) }
    key.append(UInt8(image.core.flush.generation))
    key.append(image.isDurable ? 1 : 0)
    for (ticket, owner) in image.tickets { key += [UInt8(ticket), UInt8(owner)] }
    switch image.sync {
    case .none: key.append(0)
    case .due: key.append(1)
    case .running(let generation, let versions): key += [2, UInt8(generation)] + versions.map { UInt8($0) }
    }
    return key
  }

  private func phase(_ job: SimulatedJob) -> UInt8 {
    switch job.phase {
    case .waiting: 1
    case .runnable: 2
    case .calling: 3
    case .paused: 4
    case .syncing: 5
    case .ended: 6
    }
  }
}
