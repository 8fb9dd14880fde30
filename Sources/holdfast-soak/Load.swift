// One round: clients that behave, each in a part of the image that nobody else writes, so that what it reads can be checked;
// beside them a burst of clients that do not.

import DaemonHarness
import Dispatch
import Glibc
import Locking
import NBDClient
import Oracle

final class Load: Sendable {
  private let targets: [Target]
  private let clients: Int
  private let seed: UInt64
  private let firstWrong = Locked<String?>(nil)

  init(_ targets: [Target], clients: Int, seed: UInt64) {
    (self.targets, self.clients, self.seed) = (targets, clients, seed)
  }

  /// What was wrong first, if anything.
  var wrong: String? { firstWrong.withLock { $0 } }

  func run(seconds: Double, burst: Burst) throws {
    let end = monotonicSeconds() + seconds
    let group = DispatchGroup()
    for (number, target) in targets.enumerated() {
      for client in 0..<clients {
        DispatchQueue(label: "client").async(group: group) { [self] in
          guarded { try serve(target, part: client, until: end, seed: seed &+ UInt64(number * 64 + client)) }
        }
      }
      DispatchQueue(label: "burst").async(group: group) { [self] in
        guarded { try burst.run(against: target, until: end) }
      }
    }
    group.wait()
  }

  private func guarded(_ body: () throws -> Void) {
    do { try body() } catch { firstWrong.withLock { $0 = $0 ?? "\(error)" } }
  }

  // MARK: A client that behaves

  private func serve(_ target: Target, part: Int, until end: Double, seed: UInt64) throws {
    var random = SoakRandom(seed: seed)
    while monotonicSeconds() < end {
      let tcp = random.below(3) == 0
      let socket = tcp ? try RawSocket(loopback: target.port) : try RawSocket(unix: target.socket)
      let client = RawClient(socket)
      try client.enter(structured: random.below(4) != 0)
      target.count(connections: 1)
      try work(client, target, part: part, requests: 20 + random.below(400), until: end, &random)
      switch random.below(3) {
      case 0: try client.disconnect()
      case 1: client.socket.close()
      default: client.socket.reset()
      }
    }
  }

  /// Random requests, some at a time; those of a batch do not overlap, so that the next READ has one right answer.
  private func work(
    _ client: RawClient, _ target: Target, part: Int, requests: Int, until end: Double, _ random: inout SoakRandom
  ) throws {
    let partBytes = Target.sizeBytes / 64
    let first = UInt64(part) * partBytes
    /// What each slot of 64 KiB holds, as far as that is certain.
    var known: [UInt64: UInt8] = [:]
    var done = 0
    while done < requests, monotonicSeconds() < end {
      var pending: [UInt64: (type: UInt16, slot: UInt64, byte: UInt8)] = [:]
      var slots = Set<UInt64>()
      for cookie in 1...UInt64(1 + random.below(16)) {
        let slot = first + UInt64(random.below(Int(partBytes >> 16))) << 16
        guard slots.insert(slot).inserted else { continue }
        let type = [Cmd.read, Cmd.write, Cmd.read, Cmd.writeZeroes, Cmd.trim, Cmd.flush, Cmd.cache][random.below(7)]
        let flags = random.below(20) == 0 ? CmdFlag.fua : 0
        let byte = UInt8(truncatingIfNeeded: random.next()) | 1
        let length: UInt32 = type == Cmd.flush ? 0 : 65536
        pending[cookie] = (type, slot, byte)
        try client.submit(
          type, flags: flags, offset: type == Cmd.flush ? 0 : slot, length: length,
          payload: type == Cmd.write ? [UInt8](repeating: byte, count: 65536) : nil, cookie: cookie)
      }
      while !pending.isEmpty {
        let reply = try client.receiveReply()
        guard let request = pending.removeValue(forKey: reply.cookie) else { throw HarnessError("an unknown cookie") }
        done += 1
        target.count(requests: 1, errors: reply.isSuccess ? 0 : 1)
        try check(reply, request.type, request.slot, request.byte, target, &known)
      }
    }
  }

  private func check(
    _ reply: Reply, _ type: UInt16, _ slot: UInt64, _ byte: UInt8, _ target: Target, _ known: inout [UInt64: UInt8]
  ) throws {
    let changes = [Cmd.write, Cmd.writeZeroes, Cmd.trim].contains(type)
    guard reply.isSuccess else {
      if changes { known[slot] = nil }
      guard target.isFaulty else { throw HarnessError("\(target.name): command \(type) failed with \(reply.error)") }
      return
    }
    switch type {
    case Cmd.write: known[slot] = byte
    case Cmd.writeZeroes: known[slot] = 0
    // Old or zero.
    case Cmd.trim: known[slot] = known[slot] == 0 ? 0 : nil
    case Cmd.read:
      let found = reply.data.first ?? 0
      let isWhole = reply.data.allBytes(are: found)
      let isRight = known[slot].map { $0 == found && isWhole } ?? true
      guard isRight else {
        throw HarnessError("\(target.name): slot \(slot) holds \(found) and not \(known[slot] ?? 0), whole: \(isWhole)")
      }
    default: break
    }
  }
}

extension [UInt8] {
  func allBytes(are byte: UInt8) -> Bool {
    withUnsafeBytes { bytes in
      guard let start = bytes.baseAddress, bytes.count > 1 else { return bytes.allSatisfy { $0 == byte } }
      return bytes[0] == byte && memcmp(start, start + 1, bytes.count - 1) == 0
    }
  }
}

/// Draws from one seed.
struct SoakRandom {
  private var generator: SeededGenerator
  init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

  mutating func next() -> UInt64 { generator.next() }
  mutating func below(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &generator) }
}
