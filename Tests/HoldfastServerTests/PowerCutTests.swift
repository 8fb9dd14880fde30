// Power is cut under a workload of several connections: nothing that was promised to be durable is lost (I7).

import BlockBackend
import Foundation
import HoldfastServer
import Locking
import NBDClient
import Synchronization
import TestBackends
import Testing

@Suite(.serialized) struct PowerCutTests {
  @Test func powerCutLosesNothingThatWasPromised() throws {
    let seed = printedSeed()
    for run in 0..<runs("HOLDFAST_POWER_CUTS", default: 20) {
      let losses = try PowerCutWorkload(seed: seed &+ UInt64(run), guards: .allStand).run()
      #expect(losses.isEmpty, "seed \(seed) run \(run): \(losses.prefix(5))")
    }
  }

  /// The test above would notice.
  @Test func powerCutLosesWritesWithoutItsGuard() throws {
    let proof = try GuardProof(.replyAfterSync) { guards in
      try PowerCutWorkload(seed: printedSeed(), guards: guards).run().isEmpty
    }
    #expect(proof.isSound, "\(proof)")
  }
}

/// Clients that write, trim, zero and flush the same few sectors, until power goes.
private final class PowerCutWorkload: Sendable {
  private static let sectorCount = 64
  private static let clientCount = 4

  /// One mutation of one client. Stamps are of one clock: `begun` before the request was sent, `replied` after the reply.
  private struct Mutation {
    var client: Int
    /// Position among the requests of the client.
    var index: Int
    var sectors: Range<Int>
    /// What its sectors hold afterwards; 0 is zeroes.
    var version: UInt64
    var isFUA: Bool
    var begun: UInt64
    var replied: UInt64?

    /// The server has to have done this one first.
    func precedes(_ other: Mutation) -> Bool {
      if client == other.client { return index < other.index }
      guard let replied else { return false }
      return replied < other.begun
    }
  }

  private struct Flush {
    var begun: UInt64
    var replied: UInt64?
  }

  private struct Log {
    var mutations: [Mutation] = []
    var flushes: [Flush] = []
  }

  private let seed: UInt64
  private let disk: PowerCutBackend
  private let guards: GuardSwitches
  private let clock = Atomic<UInt64>(1)
  private let requestCount = Atomic<Int>(0)
  private let cutAfter: Int
  private let isCut = Atomic<Bool>(false)
  private let remains = Locked<MemoryBackend?>(nil)
  private let logs = Locked<[Log]>([])

  init(seed: UInt64, guards: GuardSwitches) {
    var random = SplitMix(seed: seed)
    self.seed = seed
    self.guards = guards
    cutAfter = Int.random(in: 20...400, using: &random)
    let isLocal = Bool.random(using: &random)
    disk = PowerCutBackend(
      geometry: Geometry(sizeBytes: UInt64(Self.sectorCount) * PowerCutBackend.sectorBytes),
      capabilities: isLocal ? .memory : Capabilities.memory.subtracting(.local))
  }

  /// - Returns: what was lost.
  func run() throws -> [String] {
    let server = try InProcessServer(disk, guards: guards)
    let clients = try (0..<Self.clientCount).map { _ in try server.client() }
    onThreads(Self.clientCount) { [self] index in
      let log = try serve(clients[index], index)
      logs.withLock { $0.append(log) }
      clients[index].socket.close()
    }
    server.stop()
    let all = logs.withLock { $0 }
    guard let remains = remains.withLock({ $0 }) else { throw NoPowerCut() }
    let content = remains.snapshot
    return (0..<Self.sectorCount).compactMap { judge($0, content, all) }
  }

  private struct NoPowerCut: Error {}

  private func tick() -> UInt64 { clock.add(1, ordering: .sequentiallyConsistent).newValue }

  private func cutOnce() {
    guard !isCut.exchange(true, ordering: .sequentiallyConsistent) else { return }
    let found = seed % 3 == 0 ? disk.cutPowerLosingAll() : disk.cutPower(seed: seed)
    remains.withLock { $0 = found }
  }

  /// One client, with a few requests in flight at a time.
  private func serve(_ client: RawClient, _ number: Int) throws -> Log {
    var random = SplitMix(seed: seed &* 31 &+ UInt64(number))
    var log = Log()
    var mutations: [UInt64: Int] = [:]
    var flushes: [UInt64: Int] = [:]
    let depth = Int.random(in: 1...4, using: &random)

    func receive() throws {
      let reply = try client.receiveReply()
      let now = tick()
      guard reply.isSuccess else { return }
      if let index = mutations[reply.cookie] { log.mutations[index].replied = now }
      if let index = flushes[reply.cookie] { log.flushes[index].replied = now }
    }

    while !isCut.load(ordering: .sequentiallyConsistent) {
      if requestCount.add(1, ordering: .relaxed).newValue == cutAfter { cutOnce() }
      if Int.random(in: 0..<5, using: &random) == 0 {
        log.flushes.append(Flush(begun: tick()))
        flushes[try client.submit(Cmd.flush)] = log.flushes.count - 1
      } else {
        let mutation = try submitMutation(client, number, log.mutations.count, &random)
        log.mutations.append(mutation.0)
        mutations[mutation.cookie] = log.mutations.count - 1
      }
      while client.repliesOutstanding >= depth { try receive() }
    }
    while client.repliesOutstanding > 0 { try receive() }
    return log
  }

  private func submitMutation(
    _ client: RawClient, _ number: Int, _ index: Int, _ random: inout SplitMix
  ) throws -> (Mutation, cookie: UInt64) {
    let first = Int.random(in: 0..<Self.sectorCount, using: &random)
    let sectors = first..<min(Self.sectorCount, first + Int.random(in: 1...12, using: &random))
    let isFUA = Int.random(in: 0..<4, using: &random) == 0
    let command = [Cmd.write, Cmd.write, Cmd.write, Cmd.trim, Cmd.writeZeroes].randomElement(using: &random)!
    let begun = tick()
    let version = command == Cmd.write ? begun : 0
    let sectorBytes = Int(PowerCutBackend.sectorBytes)
    let cookie = try client.submit(
      command, flags: isFUA ? CmdFlag.fua : 0, offset: UInt64(sectors.lowerBound * sectorBytes),
      length: UInt32(sectors.count * sectorBytes),
      payload: command == Cmd.write
        ? [UInt8]((0..<sectors.count).map { _ in Self.sector(version) }.joined()) : nil)
    let mutation = Mutation(
      client: number, index: index, sectors: sectors, version: version, isFUA: isFUA, begun: begun)
    return (mutation, cookie)
  }

  private static func sector(_ version: UInt64) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Int(PowerCutBackend.sectorBytes))
    for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: version >> (8 * UInt64(index))) }
    return bytes
  }

  /// A sector may hold any version that no durable one has surely replaced.
  private func judge(_ sector: Int, _ content: SparseBytes, _ logs: [Log]) -> String? {
    let mutations = logs.flatMap(\.mutations).filter { $0.sectors.contains(sector) }
    let flushes = logs.flatMap(\.flushes)
    let durable = mutations.filter { mutation in
      guard let replied = mutation.replied else { return false }
      return mutation.isFUA || flushes.contains { $0.replied != nil && $0.begun > replied }
    }
    let found = content.array(at: UInt64(sector) * PowerCutBackend.sectorBytes, 8)
      .reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    let isInitial = found == 0 && durable.isEmpty
    let isAllowed = mutations.contains { candidate in
      candidate.version == found && !durable.contains { candidate.precedes($0) }
    }
    if isInitial || isAllowed { return nil }
    return "sector \(sector) holds version \(found), durable are \(durable.map(\.version))"
  }
}
