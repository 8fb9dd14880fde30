// Each guard of the server, in and out. With the guard the invariant holds every time; without it the same test sees it
// broken. Gates make the races certain. The guards of the file backend have theirs in SparseFileTests.

import BlockBackend
import DaemonHarness
import Dispatch
import Foundation
import HoldfastServer
import NBDClient
import NBDServerCore
import SparseFile
import TestBackends
import Testing

private func expectSound(_ each: Guard, holds: (GuardSwitches) throws -> Bool) rethrows {
  let proof = try GuardProof(each, holds: holds)
  #expect(proof.isSound, "\(proof)")
}

@Suite(.serialized) struct GuardTests {
  let half = 256 * 1024

  /// I3. A WRITE comes between the look-up of holes and the read of the data behind them.
  @Test func readWithHolesIsNotTornByAWrite() throws {
    try expectSound(.layoutUnderLock) { guards in
      let memory = remoteMemory(sizeBytes: 4 << 20)
      let gate = GateBackend(memory)
      let server = try InProcessServer(gate, guards: guards)
      let (reader, writer) = (try server.client(), try server.client())
      // A hole, then data.
      _ = try writer.write(UInt64(half), bytes(1, half))
      gate.close(.read)
      try reader.submit(Cmd.read, offset: 0, length: UInt32(2 * half))
      #expect(gate.waitUntilHeld(.read))
      try writer.submit(Cmd.write, offset: 0, length: UInt32(2 * half), payload: bytes(2, 2 * half))
      _ = writer.socket.isReadable(withinMilliseconds: 100)
      gate.open()
      #expect(try writer.receiveReply().isSuccess)
      let data = try reader.receiveReply().data
      return data[0] == 2 ? data.allSatisfy { $0 == 2 } : data == bytes(0, half) + bytes(1, half)
    }
  }

  /// I5. A READ comes between the two system calls of a WRITE.
  @Test func readDoesNotSeeHalfAWrite() throws {
    try expectSound(.rangeLock) { guards in
      let gate = GateBackend(remoteMemory(sizeBytes: 4 << 20))
      let server = try InProcessServer(gate, guards: guards)
      let (reader, writer) = (try server.client(), try server.client())
      gate.close(.write)
      try writer.submit(Cmd.write, offset: 0, length: UInt32(2 * half), payload: bytes(7, 2 * half))
      #expect(gate.waitUntilHeld(.write))
      gate.release(.write)
      #expect(gate.waitUntilHeld(.write))
      try reader.submit(Cmd.read, offset: 0, length: UInt32(2 * half))
      _ = reader.socket.isReadable(withinMilliseconds: 100)
      gate.open()
      let data = try reader.receiveReply().data
      #expect(try writer.receiveReply().isSuccess)
      return data.allSatisfy { $0 == data[0] }
    }
  }

  /// I6. A client dies while its WRITE is stalled; a later client's WRITE must not be reverted by it.
  @Test func writeOfADeadClientDoesNotRevertALaterOne() throws {
    try expectSound(.deadKeepLocks) { guards in
      let gate = GateBackend(remoteMemory(sizeBytes: 1 << 20))
      let server = try InProcessServer(gate, guards: guards)
      let (dying, later) = (try server.client(), try server.client())
      gate.close(.write)
      try dying.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(1, 4096))
      #expect(gate.waitUntilHeld(.write))
      // A wrong magic number kills the connection at once.
      try dying.socket.send(bytes(0xee, 28))
      #expect(eventually(seconds: 5) { dying.socket.hasEnded() })
      // What comes later is not held, only the stalled one.
      try later.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(2, 4096))
      let overtook = gate.waitUntilHeld(.write, count: 2, timeoutSeconds: 0.15)
      if overtook { gate.releaseNewest(.write) }
      _ = overtook && later.socket.isReadable(withinMilliseconds: 1000)
      gate.open()
      #expect(try later.receiveReply().isSuccess)
      #expect(gate.waitUntilFinished(.write, count: 2))
      return try later.read(0, 4096).data == bytes(2, 4096)
    }
  }

  /// I7. A reply to FUA or FLUSH leaves while the sync is still held.
  @Test(arguments: [Cmd.write, Cmd.trim, Cmd.writeZeroes, Cmd.flush])
  func noReplyBeforeTheSyncReturned(command: UInt16) throws {
    try expectSound(.replyAfterSync) { guards in
      let gate = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
      let server = try InProcessServer(gate, guards: guards)
      let client = try server.client()
      _ = try client.write(0, bytes(1, 4096))
      gate.close(.sync)
      let isFlush = command == Cmd.flush
      try client.submit(
        command, flags: isFlush ? 0 : CmdFlag.fua, offset: 0, length: isFlush ? 0 : 4096,
        payload: command == Cmd.write ? bytes(1, 4096) : nil)
      let wasSilent = client.staysSilent(milliseconds: 100)
      gate.open()
      #expect(try client.receiveReply().isSuccess)
      return wasSilent
    }
  }

  /// I7. After a failed sync, a later one succeeds and lies.
  @Test func failedSyncFailsAllLaterOnes() throws {
    try expectSound(.syncErrorLatch) { guards in
      let faults = FaultBackend(MemoryBackend(sizeBytes: 1 << 20))
      let server = try InProcessServer(faults, guards: guards)
      let (first, second) = (try server.client(), try server.client())
      _ = try first.write(0, bytes(1, 4096))
      faults.fail(.sync, with: .ioError)
      #expect(try first.call(Cmd.flush).error == NBDErrno.io)
      let laterFlush = try second.call(Cmd.flush)
      let laterFUA = try second.write(4096, bytes(2, 4096), flags: CmdFlag.fua)
      let newcomer = try server.client().call(Cmd.flush)
      // Reads go on.
      #expect(try second.read(0, 4096).data == bytes(1, 4096))
      return [laterFlush, laterFUA, newcomer].allSatisfy { $0.error == NBDErrno.io }
    }
  }

  /// I9. What was not advertised is refused, whatever the backend would do.
  @Test func unadvertisedTrimIsRefused() throws {
    try expectSound(.refuseUnadvertised) { guards in
      let backend = MemoryBackend(
        geometry: Geometry(sizeBytes: 1 << 20), capabilities: Capabilities.memory.subtracting([.trim, .fastZero]))
      let server = try InProcessServer(backend, guards: guards)
      let client = try server.client()
      let trim = try client.call(Cmd.trim, offset: 0, length: 4096)
      let fast = try client.call(Cmd.writeZeroes, flags: CmdFlag.fastZero, offset: 0, length: 4096)
      return trim.error == NBDErrno.invalid && fast.error == NBDErrno.invalid
    }
  }

  /// I10. Payloads that arrive are charged before they are kept.
  @Test func halfSentPayloadsStayInsideTheBudget() throws {
    try expectSound(.byteBudget) { guards in
      var limits = Limits()
      limits.totalBytesMax = 4 << 20
      limits.connectionBytesMax = 2 << 20
      let server = try InProcessServer(MemoryBackend(sizeBytes: 64 << 20), guards: guards, limits: limits)
      let clients = try (0..<6).map { _ in try server.client() }
      for client in clients {
        try client.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: 32 << 20))
        _ = try client.socket.sendWithoutWaiting(bytes(9, 3 << 20))
      }
      var peak = 0
      _ = eventually(seconds: 0.3) {
        for client in clients { _ = try? client.socket.sendWithoutWaiting(bytes(9, 1 << 20)) }
        peak = max(peak, server.server.chargedBytes)
        return peak > limits.totalBytesMax
      }
      for client in clients { client.socket.close() }
      return peak <= limits.totalBytesMax
    }
  }

  /// I4, the story of splice and punch-hole (Linux, XFS): replies lie unread in the socket while a TRIM of the same range
  /// completes on another connection.
  @Test func repliesInTheSocketAreNotPunched() throws {
    let length = 32 << 20
    try withScratch { scratch in
      let directory = try scratch.mountFileSystem(["mkfs.xfs", "-q"], sizeBytes: 512 << 20)
      try expectSound(.privateCopyOfReads) { guards in
        let path = directory + "/disk.img"
        try Data(bytes(0xff, length)).write(to: URL(fileURLWithPath: path))
        sync()
        try "3".write(toFile: "/proc/sys/vm/drop_caches", atomically: false, encoding: .utf8)
        let file = try ImageFile.open(path: .init(path), guards: guards)
        let server = try InProcessServer(file, guards: guards)
        let (reader, trimmer) = (try server.client(), try server.client())
        for offset in stride(from: 0, to: length, by: 1 << 20) {
          try reader.submit(Cmd.read, flags: CmdFlag.dontFragment, offset: UInt64(offset), length: 1 << 20)
        }
        // The first replies fill the socket.
        #expect(reader.socket.isReadable(withinMilliseconds: 5000))
        #expect(!eventually(seconds: 0.1) { false })
        // All but the edges of each READ: what punch-hole does not drop from the page cache it zeroes in place.
        let (edge, piece) = (4096, 1 << 20)
        for offset in stride(from: 0, to: length, by: piece) {
          let trim = try trimmer.call(Cmd.trim, offset: UInt64(offset + edge), length: UInt32(piece - 2 * edge))
          #expect(trim.isSuccess)
        }
        let old = bytes(0xff, piece)
        let new = bytes(0xff, edge) + bytes(0, piece - 2 * edge) + bytes(0xff, edge)
        var isWhole = true
        while reader.repliesOutstanding > 0 {
          let data = try reader.receiveReply().data
          isWhole = isWhole && (data == old || data == new)
        }
        return isWhole
      }
    }
  }
}
