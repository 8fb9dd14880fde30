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

/// SIGINT ends the load; what is there is judged.
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

  func execute() throws -> Verdict {
    defer {
      board.end()
      judge.end()
    }
    try clearRegion()
    try startThreads()
    let progress = Progress(isQuiet: settings.isQuiet, operations: settings.operations, seconds: settings.seconds)
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
    number += 1
    judge.judge(try lastLook(number))
    board.end()
    judge.end()
    progress.end()
    return verdict()
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
  private func clearRegion() throws {
    let zeroes = [UInt8](repeating: 0, count: min(settings.shape.regionBytes, 1 << 20, advertised.payloadBytesMax))
    for offset in stride(from: 0, to: settings.shape.regionBytes, by: zeroes.count) {
      try control.write(UInt64(offset), Array(zeroes.prefix(settings.shape.regionBytes - offset)))
    }
  }

  private func startThreads() throws {
    let plan = LoadPlan(
      uri: settings.uri, shape: settings.shape, seed: settings.seed,
      tag: (UInt64(bitPattern: start) ^ UInt64(getpid()) << 8) & (1 << 21 - 1) | 1,
      connections: settings.connections, depth: settings.depth, start: start)
    for thread in 0..<threads {
      let connections = Array(stride(from: thread, to: settings.connections, by: threads))
      try PosixThread.spawn(name: "load") { [board, events] in
        LoadThread.run(plan, connections: connections, board: board, events: events)
      }
    }
  }

  private func epoch(_ number: Int, _ perConnection: Int, kills: Bool, _ progress: Progress) throws -> Epoch {
    // What came before this epoch must survive a kill in it.
    if kills, advertised.flush { try control.flush() }
    let begun = events.next()
    let before = board.answered.load(ordering: .relaxed)
    let order = Order(
      number: number, requestsPerConnection: perConnection, reconnects: tally.mustReconnect, expectsDeath: kills)
    board.give(order)
    tally.mustReconnect = false
    let killAfter = kills ? Int.random(in: 1...perConnection * settings.connections * 3 / 4, using: &random) : .max
    var isKilled = false
    var collected: [Request]?
    while collected == nil {
      collected = try board.collect(threads: threads)
      let answered = board.answered.load(ordering: .relaxed)
      if !isKilled, answered - before >= killAfter {
        server?.kill()
        isKilled = true
      }
      progress.show(answered: answered, judged: judge.judged, findings: judge.findings.count)
      if collected == nil { usleep(200) }
    }
    var epoch = Epoch(number: number, before: settled, begun: begun, requests: collected ?? [])
    epoch.statusBlocks = settings.shape.blockBytes / BlockStamp.blockBytes
    tally.count(epoch.requests)
    if isKilled { try comeBack(&epoch) }
    epoch.requests += try look(control, isAfterKill: isKilled)
    try settle(epoch.requests.suffix(lookCount))
    return epoch
  }

  private func comeBack(_ epoch: inout Epoch) throws {
    epoch.killed = events.next()
    guard let server else { return }
    try server.start()
    control = try server.connect(settings.uri)
    tally.kills += 1
    tally.mustReconnect = true
  }

  private func lastLook(_ number: Int) throws -> Epoch {
    let begun = events.next()
    let fresh = try NBDHandle(settings.uri)
    return Epoch(
      number: number, before: settled, begun: begun, requests: try look(fresh, isAfterKill: false))
  }

  private var lookBytes: Int { min(settings.shape.regionBytes, 1 << 20, advertised.payloadBytesMax) }
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

  private func settle(_ looks: ArraySlice<Request>) throws {
    for look in looks {
      for run in look.seen {
        settled.set(run)
        guard run.content == .broken else { continue }
        // Found and reported once; from here on it is known again.
        let bytes = run.blocks.count * BlockStamp.blockBytes
        try control.write(
          UInt64(run.blocks.lowerBound * BlockStamp.blockBytes), [UInt8](repeating: 0, count: bytes))
        settled.set(Run(run.blocks, .zero))
      }
    }
  }

  private func verdict() -> Verdict {
    var verdict = Verdict(settings: settings, advertised: advertised, notes: notes, tally: tally)
    verdict.seconds = elapsed
    verdict.findings = judge.findings
    verdict.epochsWith = judge.epochsWith
    verdict.isViolated = verdict.findings.contains(where: isViolation)
    verdict.wasInterrupted = wasInterrupted.load(ordering: .relaxed)
    return verdict
  }
}
