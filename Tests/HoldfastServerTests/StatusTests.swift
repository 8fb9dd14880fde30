// The counters of a server after a load that is known to the last request: each is exact, on every way that a request can take.

import BlockBackend
import DaemonHarness
import HoldfastServer
import NBDClient
import NBDProtocol
import NBDServerCore
import SystemPackage
import TestBackends
import Testing

@Suite struct StatusTests {
  private func memory(isLocal: Bool, _ sizeBytes: UInt64 = 8 << 20) -> MemoryBackend {
    isLocal ? MemoryBackend(sizeBytes: sizeBytes) : remoteMemory(sizeBytes: sizeBytes)
  }

  private func disk(_ server: InProcessServer) throws -> ExportStatus {
    try #require(server.server.status().exports.first { $0.name == "disk" })
  }

  /// Every command, short and long, on the worker and off it, with success and with errors.
  @Test(arguments: [true, false]) func everyCommandIsCountedOnce(isLocal: Bool) throws {
    let faults = FaultBackend(memory(isLocal: isLocal))
    let server = try InProcessServer(faults)
    let client = try server.client()
    var expected = PerCommand<CommandCounts>()
    func did(_ command: CountedCommand, _ bytes: UInt64, _ reply: Reply) {
      expected[command].requests += 1
      if reply.isSuccess { expected[command].bytes += bytes } else { expected[command].errors += 1 }
    }
    for length in [512, 4096, 300 << 10, 5 << 20] as [UInt32] {
      did(.write, UInt64(length), try client.write(0, bytes(7, Int(length))))
      did(.write, UInt64(length), try client.write(0, bytes(7, Int(length)), flags: CmdFlag.fua))
      did(.read, UInt64(length), try client.read(0, length))
      did(.trim, UInt64(length), try client.call(Cmd.trim, offset: 0, length: length))
      did(.writeZeroes, UInt64(length), try client.call(Cmd.writeZeroes, offset: 0, length: length))
      did(.blockStatus, UInt64(length), try client.call(Cmd.blockStatus, offset: 0, length: length))
      did(.cache, UInt64(length), try client.call(Cmd.cache, offset: 0, length: length))
      did(.flush, 0, try client.call(Cmd.flush))
    }
    did(.write, 0, try client.write(0, []))
    // Errors of the disk.
    for (kind, length) in [(BackendCall.Kind.write, 4096), (.write, 300 << 10)] {
      faults.fail(kind, with: .noSpace)
      did(.write, UInt64(length), try client.write(0, bytes(1, length)))
      faults.heal()
    }
    for kind in [BackendCall.Kind.read, .readCached] { faults.fail(kind, with: .ioError) }
    did(.read, 4096, try client.read(0, 4096))
    faults.heal()
    // Errors of the client.
    did(.read, 4096, try client.read(8 << 20, 4096))
    did(.read, 4096, try client.read((8 << 20) - 4095, 4096))
    did(.write, 4096, try client.write(8 << 20, bytes(0, 4096)))
    did(.trim, 4096, try client.call(Cmd.trim, offset: 8 << 20, length: 4096))

    let status = try disk(server)
    #expect(status.commands == expected)
    #expect(
      status.errors == [
        RequestErrorKey(command: .write, error: .noSpace): 3, RequestErrorKey(command: .read, error: .io): 1,
        RequestErrorKey(command: .read, error: .invalid): 2, RequestErrorKey(command: .trim, error: .invalid): 1,
      ])
    #expect(status.refusals == [.beyondEnd: 4])
    #expect(status.inFlight == 0 && status.connections == 1 && status.connectionsTotal == 1)
    // Latencies are told when the replies have been sent: a moment later.
    let isTimed = eventually(seconds: 5) {
      let latencies = server.server.status().latencies
      return CountedCommand.allCases.allSatisfy { latencies[$0].count == expected[$0].requests }
    }
    #expect(isTimed, "each answered request has a latency")
  }

  /// Many requests in one batch.
  @Test(arguments: [true, false]) func batchesAreCountedRequestByRequest(isLocal: Bool) throws {
    let server = try InProcessServer(memory(isLocal: isLocal))
    let client = try server.client()
    #expect(try client.write(0, bytes(3, 1 << 20)).isSuccess)
    var requests: [UInt8] = []
    for index in 0..<500 {
      let cookie = UInt64(10_000 + index)
      client.expect(Cmd.read, cookie: cookie, offset: UInt64(index) * 512, length: 512)
      requests += requestBytes(Cmd.read, cookie: cookie, offset: UInt64(index) * 512, length: 512)
    }
    try client.socket.send(requests)
    for _ in 0..<500 { #expect(try client.receiveReply().isSuccess) }
    let read = try disk(server).commands[.read]
    #expect(read == CommandCounts(requests: 500, errors: 0, bytes: 500 * 512))
  }

  /// A client that was answered finds itself counted, and a total never falls, also while connections end.
  @Test func totalsOutliveTheirConnections() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    var last: UInt64 = 0
    for round in 1...20 {
      let client = try server.client()
      for _ in 0..<5 { #expect(try client.read(0, 512).isSuccess) }
      #expect(try disk(server).commands[.read].requests == UInt64(5 * round))
      try client.disconnect()
      for _ in 0..<50 {
        let now = try disk(server).commands[.read].requests
        #expect(now >= last)
        last = now
      }
    }
    #expect(eventually(seconds: 5) { (try? disk(server).connections) == 0 })
    #expect(try disk(server).commands[.read] == CommandCounts(requests: 100, bytes: 100 * 512))
    #expect(try disk(server).connectionsTotal == 20)
  }

  @Test func countersOfManyConnectionsAddUp() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let path = server.path
    onThreads(8) { index in
      let client = try RawClient.connect(unix: path)
      for _ in 0..<200 { #expect(try client.write(UInt64(index) * 4096, bytes(1, 4096)).isSuccess) }
      if index.isMultiple(of: 2) { try client.disconnect() } else { client.socket.reset() }
    }
    #expect(try disk(server).commands[.write] == CommandCounts(requests: 1600, bytes: 1600 * 4096))
  }

  @Test func connectionsSayWhatTheyDo() throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate)
    defer { gate.open() }
    let quiet = try server.socket()
    _ = try quiet.receive(18)
    let client = try server.client()
    gate.close(.write)
    for block in [0, 0, 1] as [UInt64] {
      try client.submit(Cmd.write, offset: block * 4096, length: 4096, payload: bytes(1, 4096))
    }
    #expect(gate.waitUntilHeld(.write, count: 2))
    #expect(eventually(seconds: 5) { server.server.status().locks.waiting == 1 })
    let status = server.server.status()
    #expect(status.connections.map(\.state) == [.negotiating, .serving])
    #expect(status.connections.map(\.export) == [nil, "disk"])
    #expect(status.connections[1].inFlight == 3)
    #expect(status.connections[1].heldBytes >= 3 * 4096)
    #expect(status.exports[0].inFlight == 3 && status.exports[0].lockWaiters == 1 && status.exports[0].locksHeld == 2)
    #expect(status.memory.chargedBytes >= 3 * 4096)
    gate.open()
    for _ in 0..<3 { #expect(try client.receiveReply().isSuccess) }
    #expect(server.server.status().locks.waits.count == 1)
    #expect(eventually(seconds: 5) { server.server.status().connections[1].state == .idle })
  }

  @Test func syncsAndTheirErrorsAreCounted() throws {
    let faults = FaultBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(faults)
    let client = try server.client()
    #expect(try client.call(Cmd.flush).isSuccess)
    // Nothing was written since: no sync.
    #expect(try client.call(Cmd.flush).isSuccess)
    #expect(server.server.status().syncs.durations.count == 1)
    faults.fail(.sync, with: .ioError)
    #expect(try client.write(0, bytes(1, 512), flags: CmdFlag.fua).error == NBDErrno.io)
    let status = server.server.status()
    #expect(status.syncs.durations.count == 2 && status.syncs.errors == 1)
    #expect(status.exports[0].latchedErrno == .ioError)
    #expect(status.exports[0].errors == [RequestErrorKey(command: .write, error: .io): 1])
  }

  @Test func handshakesThatFailAreCountedByWhy() throws {
    var limits = Limits()
    limits.handshakeSeconds = 1
    limits.connectionsMax = 3
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20), limits: limits)
    func failures(_ failure: HandshakeFailure) -> UInt64 { server.server.status().handshakeFailures[failure] ?? 0 }
    // One that leaves in the middle, one that says goodbye, one that breaks the rules, one that wants what there is not.
    let leaver = try server.socket()
    _ = try leaver.receive(18)
    leaver.close()
    #expect(eventually(seconds: 5) { failures(.disconnected) == 1 })
    let polite = RawClient(try server.socket())
    try polite.greet()
    #expect(try polite.finalReply(Option.abort).type == OptionReplyType.ack)
    polite.socket.close()
    let rude = try server.socket()
    _ = try rude.receive(18)
    try rude.send(bytes(0xff, 4))
    _ = try? rude.receive(1)
    rude.close()
    #expect(eventually(seconds: 5) { failures(.protocolViolation) == 1 })
    let lost = RawClient(try server.socket())
    try lost.greet()
    #expect(throws: (any Error).self) { try lost.enterByExportName("nowhere") }
    #expect(eventually(seconds: 5) { failures(.unknownExport) == 1 })
    lost.socket.close()
    // Says goodbye, but not because it has all it wanted.
    let disappointed = RawClient(try server.socket())
    try disappointed.greet()
    #expect(try disappointed.finalReply(Option.go, infoOptionData("nowhere", [])).type == OptionReplyType.unknown)
    #expect(try disappointed.finalReply(Option.abort).type == OptionReplyType.ack)
    disappointed.socket.close()
    #expect(eventually(seconds: 5) { failures(.unknownExport) == 2 })
    #expect(eventually(seconds: 5) { server.server.connectionCount == 0 })
    // As many as may be, and one more; then silence until the time is over.
    let silent = try (0..<3).map { _ in try server.socket() }
    #expect(eventually(seconds: 5) { server.server.connectionCount == 3 })
    let tooMany = try server.socket()
    #expect(throws: (any Error).self) { try tooMany.receive(18) }
    #expect(eventually(seconds: 5) { failures(.connectionLimit) == 1 })
    #expect(eventually(seconds: 10) { failures(.timeout) == 3 })
    for socket in silent { socket.close() }
    let all = server.server.status().handshakeFailures
    #expect(all.values.reduce(0, +) == 8, "\(all)")
  }
}
