// SIGTERM: what is in flight is finished, what comes is refused, and no client delays the end beyond its limit.

import BlockBackend
import DaemonHarness
import Foundation
import HoldfastServer
import NBDClient
import NBDServerCore
import TestBackends
import Testing

@Suite struct ShutdownTests {
  @Test(arguments: [true, false]) func requestsDuringShutdownAreRefusedAndOldOnesFinished(structured: Bool) throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 64 << 20))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let client = try server.client(structured: structured)
    client.mayBeShutDown = true
    gate.close(.write, .sync)
    try client.submit(Cmd.write, flags: CmdFlag.fua, offset: 0, length: 4096, payload: bytes(1, 4096))
    #expect(gate.waitUntilHeld(.write))
    let stopping = server.beginStop()
    for command in [Cmd.read, Cmd.trim, Cmd.writeZeroes, Cmd.flush] {
      let length: UInt32 = command == Cmd.flush ? 0 : 4096
      #expect(
        try client.receive(client.submit(command, offset: 0, length: length)).error == NBDErrno.shutdown, "\(command)")
    }
    for length in [4096, 300_000] {
      let cookie = try client.submit(Cmd.write, offset: 0, length: UInt32(length), payload: bytes(2, length))
      #expect(try client.receive(cookie).error == NBDErrno.shutdown)
    }
    #expect(!stopping.isOver)
    gate.open(.write)
    #expect(gate.waitUntilHeld(.sync))
    #expect(!stopping.isOver)
    gate.open()
    #expect(try client.receiveReply().isSuccess)
    #expect(try client.socket.receiveUntilEnd().isEmpty)
    #expect(stopping.ends(withinSeconds: 10))
    #expect(try gate.inner.bytes(at: 0, 4096) == bytes(1, 4096))
    #expect(server.server.chargedBytes == 0)
  }

  @Test func newConnectionsAreNotAccepted() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let stopping = server.beginStop()
    #expect(throws: ClientError.self) { try server.client(timeoutSeconds: 5) }
    #expect(stopping.ends(withinSeconds: 10))
  }

  /// Quiet clients are let go at once: a shutdown does not wait for its limit.
  @Test func idleClientsDoNotDelayTheEnd() throws {
    var limits = Limits()
    limits.shutdownSeconds = 60
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20), limits: limits)
    let clients = try (0..<5).map { _ in try server.client() }
    _ = try server.socket()
    let stopping = server.beginStop()
    #expect(stopping.ends(withinSeconds: 20))
    for client in clients { #expect(try client.socket.receiveUntilEnd().isEmpty) }
  }

  enum Stall: CaseIterable { case payload, largePayload, unread, silentHandshake, halfHandshake, busy }

  /// However a client behaves, the server ends soon after its limit.
  @Test(arguments: Stall.allCases) func stallingClientIsCutOff(stall: Stall) throws {
    var limits = Limits()
    limits.shutdownSeconds = 1
    let server = try InProcessServer(MemoryBackend(sizeBytes: 64 << 20), limits: limits)
    let socket: RawSocket
    switch stall {
    case .payload, .largePayload:
      socket = try server.client().socket
      let length = stall == .payload ? 4096 : 8 << 20
      try socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: UInt32(length)) + bytes(1, length / 2))
    case .unread:
      // Simple replies: a hole would be sent as such.
      socket = try server.client(structured: false).socket
      for cookie: UInt64 in 1...16 {
        try socket.send(requestBytes(Cmd.read, cookie: cookie, offset: 0, length: 1 << 20))
      }
      #expect(eventually(seconds: 5) { server.server.chargedBytes > 0 })
    case .silentHandshake: socket = try server.socket()
    case .halfHandshake:
      socket = try server.socket()
      try socket.send([0, 0, 0, 3] + Array(optionBytes(Option.go, infoOptionData("")).dropLast(1)))
    case .busy:
      socket = try server.client().socket
      Thread {
        for cookie in 1... as PartialRangeFrom<UInt64> {
          let request = requestBytes(Cmd.read, cookie: cookie, offset: 0, length: 512)
          guard (try? socket.send(request)) != nil, (try? socket.receive(16)) != nil else { return }
        }
      }.start()
    }
    let begun = ContinuousClock.now
    let stopping = server.beginStop()
    #expect(stopping.ends(withinSeconds: 30))
    #expect(ContinuousClock.now - begun < .seconds(15))
    #expect(server.server.connectionCount == 0)
    #expect(server.server.chargedBytes == 0)
    withExtendedLifetime(socket) {}
  }
}
