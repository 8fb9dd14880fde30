// Clients that reset, hang up, stall and break the protocol, all at once: nothing of them is left when they are gone.

import BlockBackend
import DaemonHarness
import Foundation
import HoldfastServer
import NBDClient
import NBDServerCore
import Syscalls
import TestBackends
import Testing

@Suite(.serialized) struct ChaosTests {
  @Test func nothingIsLeftOfClientsThatAreGone() throws {
    let seed = printedSeed()
    for run in 0..<runs("HOLDFAST_CHAOS_RUNS", default: 8) {
      try Chaos(seed: seed &+ UInt64(run), context: "seed \(seed) run \(run)").run()
    }
  }
}

private final class Chaos: Sendable {
  private static let clientCount = 10
  private let seed: UInt64
  private let context: String
  private let gate: GateBackend
  private let limits: Limits

  init(seed: UInt64, context: String) {
    self.seed = seed
    self.context = context
    var random = SplitMix(seed: seed)
    let size: UInt64 = 16 << 20
    gate = GateBackend(Bool.random(using: &random) ? MemoryBackend(sizeBytes: size) : remoteMemory(sizeBytes: size))
    var limits = Limits()
    limits.requestsInFlightMax = Int.random(in: 2...64, using: &random)
    // Little beyond the reserve, so that connections wait for memory; more than one request of them needs.
    limits.totalBytesMax = 32 << 20 + Int.random(in: 5...12, using: &random) << 20
    limits.connectionBytesMax = 33 << 20
    limits.sendQueuePauseBytes = 64 << 10
    limits.sendQueueResumeBytes = 16 << 10
    limits.stallSeconds = 1
    self.limits = limits
  }

  func run() throws {
    let server = try InProcessServer(gate, limits: limits)
    let any = try #require(SocketAddress.resolve(host: "127.0.0.1", port: 0).first)
    let port = try #require(server.server.listen(tcp: any).port)
    let path = server.path
    onThreads(Self.clientCount + 1) { [self] index in
      var random = SplitMix(seed: seed &* 977 &+ UInt64(index))
      if index == Self.clientCount {
        holdNowAndThen(&random)
      } else {
        for _ in 0..<3 {
          let socket =
            Bool.random(using: &random)
            ? try RawSocket(loopback: port, timeoutSeconds: 20) : try RawSocket(unix: path, timeoutSeconds: 20)
          // A reset while the other side still talks is an end, not an error of the test.
          do { try behave(socket, &random) } catch let error as ClientError where error.isEnd {}
          if Bool.random(using: &random) { socket.reset() } else { socket.close() }
        }
      }
    }
    let left = server.server
    #expect(eventually(seconds: 20) { left.connectionCount == 0 }, "\(left.connectionCount) are left, \(context)")
    #expect(left.chargedBytes == 0, "\(context)")
    #expect(server.image.lockCounts == (0, 0), "\(context)")

    // The server is as good as new.
    let client = try server.client()
    #expect(try client.write(0, bytes(3, 1 << 20), flags: CmdFlag.fua).isSuccess, "\(context)")
    #expect(try client.read(0, 1 << 20).data == bytes(3, 1 << 20), "\(context)")
    try client.disconnect()
    #expect(eventually(seconds: 5) { left.connectionCount == 0 && left.chargedBytes == 0 }, "\(context)")
  }

  /// Waiters, held syncs and full lanes come from here.
  private func holdNowAndThen(_ random: inout SplitMix) {
    for _ in 0..<8 {
      gate.close([.write, .read, .sync, .trim, .zero].randomElement(using: &random)!)
      Thread.sleep(forTimeInterval: Double.random(in: 0.001...0.02, using: &random))
      gate.open()
      Thread.sleep(forTimeInterval: Double.random(in: 0.001...0.01, using: &random))
    }
    gate.open()
  }

  private func behave(_ socket: RawSocket, _ random: inout SplitMix) throws {
    let client = RawClient(socket)
    if Int.random(in: 0..<8, using: &random) == 0 {
      // Does not even come through the handshake.
      _ = try socket.receive(Int.random(in: 0...18, using: &random))
      let words: [UInt8] = [0, 0, 0, 3] + optionBytes(Option.go, infoOptionData(""))
      try socket.send(Array(words.prefix(Int.random(in: 0..<words.count, using: &random))))
      return
    }
    try client.enter(structured: Bool.random(using: &random))
    for _ in 0..<Int.random(in: 0...40, using: &random) {
      try submit(client, &random)
      // Receives seldom, so that replies pile up; but never more than the sockets hold while it sends.
      while client.repliesOutstanding > 6 { _ = try client.receiveReply() }
    }
    switch Int.random(in: 0..<7, using: &random) {
    case 0: return
    case 1: try client.socket.send(bytes(0xee, 28))
    case 2:
      client.socket.shutdownWrite()
      while client.repliesOutstanding > 0 { _ = try client.receiveReply() }
      #expect(try socket.receiveUntilEnd().isEmpty, "\(context)")
    case 3:
      while client.repliesOutstanding > 0 { _ = try client.receiveReply() }
      try client.disconnect()
    case 4:
      let length = Int.random(in: 1...4 << 20, using: &random)
      try socket.send(requestBytes(Cmd.write, cookie: 9, offset: 0, length: UInt32(length)))
      _ = try socket.sendWithoutWaiting(bytes(1, length / 2))
      Thread.sleep(forTimeInterval: Double.random(in: 0...0.1, using: &random))
    case 5:
      for _ in 0..<20 {
        _ = try socket.sendWithoutWaiting(requestBytes(Cmd.read, cookie: 9, offset: 0, length: 1 << 20))
      }
      Thread.sleep(forTimeInterval: Double.random(in: 0...0.1, using: &random))
    default: try socket.send(requestBytes(Cmd.write, cookie: 9, offset: 0, length: 65 << 20))
    }
  }

  private func submit(_ client: RawClient, _ random: inout SplitMix) throws {
    let offset = UInt64.random(in: 0..<8 << 20, using: &random)
    let length =
      Int.random(in: 0..<6, using: &random) == 0
      ? Int.random(in: 1...2 << 20, using: &random) : Int.random(in: 1...20_000, using: &random)
    let flags = Int.random(in: 0..<4, using: &random) == 0 ? CmdFlag.fua : 0
    switch Int.random(in: 0..<7, using: &random) {
    case 0...1:
      // Replies have to have gone out before a long payload, else both sides wait for the other to receive.
      while client.repliesOutstanding > 0 { _ = try client.receiveReply() }
      try client.submit(Cmd.write, flags: flags, offset: offset, length: UInt32(length), payload: bytes(1, length))
    case 2...3: try client.submit(Cmd.read, offset: offset, length: UInt32(length))
    case 4: try client.submit(Cmd.trim, flags: flags, offset: offset, length: UInt32(length))
    case 5: try client.submit(Cmd.writeZeroes, flags: flags, offset: offset, length: UInt32(length))
    default: try client.submit(Cmd.flush)
    }
  }
}
