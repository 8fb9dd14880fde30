// FLUSH and FUA over several connections (I7): no reply before its sync, one sync for many, and what a failed one means.

import BlockBackend
import Foundation
import HoldfastServer
import NBDClient
import NBDServerCore
import TestBackends
import Testing

@Suite struct DurabilityTests {
  private static let mutations = [Cmd.write, Cmd.trim, Cmd.writeZeroes]

  private func submit(_ command: UInt16, on client: RawClient, offset: UInt64, flags: UInt16 = CmdFlag.fua) throws {
    if command == Cmd.flush {
      try client.submit(command)
    } else {
      let payload = command == Cmd.write ? bytes(7, 4096) : nil
      try client.submit(command, flags: flags, offset: offset, length: 4096, payload: payload)
    }
  }

  /// Whatever was done while a sync runs has to wait for the next; that one answers all of them.
  @Test(arguments: [true, false]) func heldSyncHoldsEveryConnection(isLocal: Bool) throws {
    let gate = GateBackend(isLocal ? MemoryBackend(sizeBytes: 1 << 20) : remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let leader = try server.client()
    gate.close(.sync)
    try submit(Cmd.write, on: leader, offset: 0)
    #expect(gate.waitUntilHeld(.sync))

    let commands = [Cmd.write, Cmd.trim, Cmd.writeZeroes, Cmd.write, Cmd.trim, Cmd.writeZeroes]
    let others = try commands.map { _ in try server.client() }
    for (index, command) in commands.enumerated() {
      try submit(command, on: others[index], offset: UInt64(4096 * index))
    }
    for kind in [BackendCall.Kind.trim, .zero] { #expect(gate.waitUntilFinished(kind, count: 2)) }
    #expect(gate.waitUntilFinished(.write, count: 3))
    let flusher = try server.client()
    try submit(Cmd.flush, on: flusher, offset: 0)
    for client in [leader, flusher] + others { #expect(client.staysSilent(milliseconds: 20)) }

    gate.release(.sync)
    #expect(try leader.receiveReply().isSuccess)
    #expect(gate.waitUntilHeld(.sync))
    for client in others + [flusher] { #expect(client.staysSilent(milliseconds: 20)) }
    gate.release(.sync)
    for client in others + [flusher] { #expect(try client.receiveReply().isSuccess) }
    #expect(gate.arrived.count { $0.kind == .sync } == 2, "one sync for all who waited")
    gate.open()
  }

  /// FLUSH covers what other connections were told, and is not answered by a sync that began before it.
  @Test func flushCoversOtherConnections() throws {
    let gate = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let (writer, first, second) = (try server.client(), try server.client(), try server.client())
    gate.close(.sync)
    #expect(try writer.write(0, bytes(1, 4096)).isSuccess)
    try first.submit(Cmd.flush)
    #expect(gate.waitUntilHeld(.sync))
    #expect(try writer.write(4096, bytes(2, 4096)).isSuccess)
    try second.submit(Cmd.flush)
    #expect(second.staysSilent(milliseconds: 50))
    gate.release(.sync)
    #expect(try first.receiveReply().isSuccess)
    #expect(second.staysSilent(milliseconds: 50))
    #expect(gate.waitUntilHeld(.sync))
    gate.release(.sync)
    #expect(gate.waitUntilFinished(.sync, count: 2))
    #expect(try second.receiveReply().isSuccess)
  }

  /// A predecessor that was killed may have acknowledged writes.
  @Test func firstFlushSyncsAnUnchangedImageAndNoOtherDoes() throws {
    let gate = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let (first, second) = (try server.client(), try server.client())
    #expect(try first.read(0, 4096).isSuccess)
    for client in [first, second, first] { #expect(try client.call(Cmd.flush).isSuccess) }
    #expect(gate.arrived.count { $0.kind == .sync } == 1)
    #expect(try second.write(0, bytes(1, 512)).isSuccess)
    for client in [first, second] { #expect(try client.call(Cmd.flush).isSuccess) }
    #expect(gate.arrived.count { $0.kind == .sync } == 2)
  }

  /// Everybody who waits for the sync that fails, everybody later, every newcomer. Reads and plain writes go on.
  @Test(arguments: [true, false]) func failedSyncReachesEveryConnection(isLocal: Bool) throws {
    let faults = FaultBackend(isLocal ? MemoryBackend(sizeBytes: 1 << 20) : remoteMemory(sizeBytes: 1 << 20))
    let gate = GateBackend(faults)
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let clients = try (0..<5).map { _ in try server.client() }
    #expect(try clients[0].write(0, bytes(7, 4096)).isSuccess)
    faults.fail(.sync, with: .ioError)
    gate.close(.sync)
    let commands = [Cmd.flush, Cmd.write, Cmd.trim, Cmd.writeZeroes, Cmd.flush]
    for (index, command) in commands.enumerated() {
      try submit(command, on: clients[index], offset: UInt64(8192 * index))
      if index == 0 { #expect(gate.waitUntilHeld(.sync)) }
    }
    for kind in [BackendCall.Kind.trim, .zero] { #expect(gate.waitUntilFinished(kind)) }
    #expect(gate.waitUntilFinished(.write, count: 2))
    gate.open()
    for client in clients { #expect(try client.receiveReply().error == NBDErrno.io) }

    for client in clients + [try server.client(), try server.client(structured: false)] {
      for command in Self.mutations + [Cmd.flush] {
        try submit(command, on: client, offset: 65536)
        #expect(try client.receiveReply().error == NBDErrno.io)
      }
      #expect(try client.read(0, 4096).data == bytes(7, 4096))
      for command in Self.mutations {
        try submit(command, on: client, offset: 131072, flags: 0)
        #expect(try client.receiveReply().isSuccess)
      }
    }
    #expect(gate.arrived.count { $0.kind == .sync } == 1, "no sync that could lie is made")
    #expect(server.image.latchedError == .ioError)
  }

  @Test func shutdownReportsAnEarlierFailedSync() throws {
    let faults = FaultBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(faults)
    let client = try server.client()
    _ = try client.write(0, bytes(1, 512))
    faults.fail(.sync, with: .noSpace)
    #expect(try client.call(Cmd.flush).error == NBDErrno.io)
    client.socket.close()
    let end = try #require(server.stop())
    #expect(end.failedSyncs.map(\.export) == ["disk"])
    #expect(end.failedSyncs.map(\.error) == [.noSpace])
  }

  @Test func shutdownReportsItsOwnFailedSync() throws {
    let faults = FaultBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(faults)
    _ = try server.client().write(0, bytes(1, 512))
    faults.fail(.sync, with: .ioError)
    #expect(try #require(server.stop()).failedSyncs.map(\.error) == [.ioError])
  }

  /// What was acknowledged without FUA or FLUSH is synced before the server ends.
  @Test func shutdownSyncsWhatNobodyFlushed() throws {
    let disk = PowerCutBackend(sizeBytes: 1 << 20)
    let server = try InProcessServer(disk)
    let client = try server.client()
    #expect(try client.write(8192, bytes(9, 4096)).isSuccess)
    client.socket.close()
    #expect(try #require(server.stop()).failedSyncs.isEmpty)
    #expect(disk.cutPowerLosingAll().snapshot.array(at: 8192, 4096) == bytes(9, 4096))
  }
}
