// A run from the first connection to the verdict: epochs of requests, with quiet moments between them in which the whole
// region is read.

import Glibc
import Oracle
import Synchronization
import Syscalls
import Torture

struct Settings: Sendable {
  var uri: String
  var shape = Shape()
  var connections = 8
  var depth = 4
  var seconds: Double?
  var operations: Int?
  var seed: UInt64
  /// Nil: as large as the export allows, at most the usual one.
  var regionBytes: Int?
  var serverCommand: String?
  var kills = 0
  /// Counts as violations what the protocol does not promise, too.
  var isStrict = false
  var isQuiet = false
}

/// SIGINT or SIGTERM ends the load; what is there is judged.
let wasInterrupted = Atomic<Bool>(false)

final class TortureRun {
  private var settings: Settings
  private let advertised: Advertised
  private var notes: [String] = []
  private let server: ServerProcess?
  private var control: NBDHandle
  private let events = EventCounter()
  private let board = Board()
  private let judge: JudgeThread
  private let start = monotonicNanoseconds()
  private var settled: Settled
  private var tally = Tally()
  private var random: SeededGenerator
  private let threads: Int
  /// The load, when all of it has to go over `control`: the server lets nobody else in, or shows others something else.
  private var onlyLoad: LoadThread?

  /// Connects, and finds out what can be asked of the server.
  init(_ wanted: Settings) throws {
    var settings = wanted
    server = try settings.serverCommand.map { try ServerProcess($0) }
    control = try server?.connect(settings.uri) ?? NBDHandle(settings.uri)
    advertised = try control.advertised()
    notes = try settings.fit(to: advertised)
    self.settings = settings
    settled = Settled(blocks: settings.shape.regionBytes / BlockStamp.blockBytes)
    random = SeededGenerator(seed: settings.seed ^ 0x70_7274)
    threads = min(settings.connections, max(2, (settings.connections + 7) / 8))
    judge = try JudgeThread()
  }

  /// A failure ends the load; what was found until then counts.
  func execute() -> Verdict {
    let progress = Progress(isQuiet: settings.isQuiet, operations: settings.operations, seconds: settings.seconds)
    var failure: String?
    do { try runEpochs(progress) } catch { failure = "\(error)" }
    board.end()
    judge.end()
    progress.end()
    return verdict(failure)
  }

  private func runEpochs(_ progress: Progress) throws {
    try clearRegion()
    try startLoad()
    var number = 0
    var size = min(64, epochMax)
    while !isFinished {
      number += 1
      let begun = monotonicNanoseconds()
      let perConnection = min(size, remaining(per: settings.connections))
      let isKill = isKillDue
      judge.judge(try epoch(number, perConnection, kills: isKill, progress))
      // Long enough to be worth its quiet moment, short enough to be judged soon.
      if monotonicNanoseconds() - begun < 500_000_000 { size = min(size * 2, epochMax) }
    }
    if advertised.multiConnection { judge.judge(try lastLook(number + 1)) }
  }

  // MARK: - How long

  private var elapsed: Double { Double(monotonicNanoseconds() - start) / 1e9 }

  private var isFinished: Bool {
    if wasInterrupted.load(ordering: .relaxed) || judge.findings.contains(where: isViolation) { return true }
    if let seconds = settings.seconds, elapsed >= seconds { return true }
    if let operations = settings.operations, tally.requests >= operations { return true }
    return false
  }

  private func remaining(per connections: Int) -> Int {
    guard let operations = settings.operations else { return .max }
    return max(1, (operations - tally.requests + connections - 1) / connections)
  }

  /// Requests of an epoch on each connection: at least two epochs between one kill and the next.
  private var epochMax: Int {
    let most = max(64, 16_384 / settings.connections)
    guard settings.kills > 0, let operations = settings.operations else { return most }
    return min(most, max(1, operations / (settings.connections * (settings.kills + 1) * 2)))
  }

  /// Kills are spread over the run.
  private var isKillDue: Bool {
    guard tally.kills < settings.kills else { return false }
    let share = Double(tally.kills + 1) / Double(settings.kills + 1)
    if let operations = settings.operations { return Double(tally.requests) >= share * Double(operations) }
    return elapsed >= share * (settings.seconds ?? 0)
  }

  private func isViolation(_ finding: Finding) -> Bool { finding.category.isPromised || settings.isStrict }

  // MARK: - Epochs

  /// Whatever the region held, it holds zeroes now.
  private func clearRegion() throws { try clear(0..<settings.shape.regionBytes) }

  private func clear(_ bytes: Range<Int>) throws {
    for offset in stride(from: bytes.lowerBound, to: bytes.upperBound, by: lookBytes) {
      let count = min(lookBytes, bytes.upperBound - offset)
      try control.write(UInt64(offset), [UInt8](repeating: 0, count: count))
    }
  }

  private func startLoad() throws {
    let plan = LoadPlan(
      uri: settings.uri, shape: settings.shape, seed: settings.seed,
      tag: (UInt64(bitPattern: start) ^ UInt64(getpid()) << 8) & (1 << 21 - 1) | 1,
      connections: settings.connections, depth: settings.depth, start: start)
    guard advertised.multiConnection else {
      onlyLoad = try LoadThread(plan, connections: [0], board: board, events: events, only: control)
      return
    }
    for thread in 0..<threads {
      let connections = Array(stride(from: thread, to: settings.connections, by: threads))
      try PosixThread.spawn(name: "load") { [board, events] in
        LoadThread.run(plan, connections: connections, board: board, events: events)
      }
    }
  }

  private func epoch(_ number: Int, _ perConnection: Int, kills: Bool, _ progress: Progress) throws -> Epoch {
    // What came before this epoch must survive a kill in it.
    if kills, advertised.flush {
      try control.flush()
      tally.syncs += 1
    }
    let begun = events.next()
    let before = board.answered.load(ordering: .relaxed)
    let order = Order(
      number: number, requestsPerConnection: perConnection, reconnects: tally.mustReconnect, expectsDeath: kills)
    tally.mustReconnect = false
    let killMost = max(1, perConnection * settings.connections * 3 / 4)
    let killAfter = kills ? Int.random(in: 1...killMost, using: &random) : .max
    var isKilled = false
    let requests = try execute(order) {
      let answered = board.answered.load(ordering: .relaxed)
      if !isKilled, answered - before >= killAfter {
        server?.kill()
        isKilled = true
      }
      progress.show(answered: answered, judged: judge.judged, findings: judge.findings.count)
    }
    var epoch = Epoch(number: number, before: settled, begun: begun, requests: requests)
    epoch.statusBlocks = settings.shape.blockBytes / BlockStamp.blockBytes
    epoch.isBeforeDurable = advertised.flush
    tally.count(epoch.requests)
    if isKilled { try comeBack(&epoch) }
    epoch.requests += try look(control, isAfterKill: isKilled)
    try settle(epoch)
    return epoch
  }

  private func execute(_ order: Order, pulse: () -> Void) throws -> [Request] {
    if let onlyLoad { return try onlyLoad.execute(order, pulse: pulse) }
    board.give(order)
    while true {
      let collected = try board.collect(threads: threads)
      pulse()
      if let collected { return collected }
      usleep(200)
    }
  }

  private func comeBack(_ epoch: inout Epoch) throws {
    epoch.killed = events.next()
    guard let server else { return }
    try server.start()
    control = try server.connect(settings.uri)
    tally.kills += 1
    tally.mustReconnect = true
    try onlyLoad?.reconnect(control)
  }

  private func lastLook(_ number: Int) throws -> Epoch {
    let begun = events.next()
    let fresh = try NBDHandle(settings.uri)
    return Epoch(
      number: number, before: settled, begun: begun, requests: try look(fresh, isAfterKill: false))
  }

  /// Whole blocks.
  private var lookBytes: Int {
    let unit = settings.shape.blockBytes
    return min(settings.shape.regionBytes, max(unit, min(1 << 20, advertised.payloadBytesMax) / unit * unit))
  }
  private var lookCount: Int { (settings.shape.regionBytes + lookBytes - 1) / lookBytes }

  /// The whole region, while nothing is in flight.
  private func look(_ handle: NBDHandle, isAfterKill: Bool) throws -> [Request] {
    try stride(from: 0, to: settings.shape.regionBytes, by: lookBytes).map { offset in
      let end = min(offset + lookBytes, settings.shape.regionBytes)
      let blocks = offset / BlockStamp.blockBytes..<end / BlockStamp.blockBytes
      tally.looks += 1
      var request = Request(id: 1 << 63 | UInt64(tally.looks), verb: .read, blocks: blocks, connection: -1)
      request.sentAt = monotonicNanoseconds() - start
      request.invoked = events.next()
      request.isAfterKill = isAfterKill
      request.seen = BlockStamp.runs(in: try handle.read(UInt64(offset), end - offset), first: blocks.lowerBound)
      request.completed = events.next()
      request.answeredAt = monotonicNanoseconds() - start
      return request
    }
  }

  private func settle(_ epoch: Epoch) throws {
    let unit = settings.shape.blockBytes
    settled.setTrimmed(epoch.trimmedAtEnd)
    var reset: [Range<Int>] = []
    for run in epoch.requests.suffix(lookCount).flatMap(\.seen) {
      settled.set(run)
      guard run.content == .broken || run.content == .misplaced else { continue }
      // Found and reported once; from here on it is known again.
      let first = run.blocks.lowerBound * BlockStamp.blockBytes / unit * unit
      let end = (run.blocks.upperBound * BlockStamp.blockBytes + unit - 1) / unit * unit
      try clear(first..<end)
      reset.append(first / BlockStamp.blockBytes..<end / BlockStamp.blockBytes)
    }
    for blocks in reset { settled.reset(blocks) }
  }

  private func verdict(_ failure: String?) -> Verdict {
    if tally.kills < settings.kills {
      notes.append("only \(tally.kills) of \(settings.kills) kills happened: the run ended before the others were due")
    }
    var verdict = Verdict(settings: settings, advertised: advertised, notes: notes, tally: tally)
    verdict.seconds = elapsed
    verdict.findings = judge.findings
    verdict.epochsWith = judge.epochsWith
    verdict.isViolated = verdict.findings.contains(where: isViolation)
    verdict.wasInterrupted = wasInterrupted.load(ordering: .relaxed)
    verdict.failure = failure
    return verdict
  }
}
