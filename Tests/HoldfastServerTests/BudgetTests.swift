// Memory of the server under clients that send halves, send nothing more, or do not read (I10).

import BlockBackend
import DaemonHarness
import Foundation
import HoldfastServer
import NBDClient
import NBDServerCore
import TestBackends
import Testing

@Suite struct BudgetTests {
  private let mebibyte = 1 << 20

  /// The reserve for one payload, and `extra` bytes beyond it.
  private func limits(extraBytes extra: Int) -> Limits {
    var limits = Limits()
    limits.totalBytesMax = 32 * mebibyte + extra
    limits.connectionBytesMax = 33 * mebibyte
    limits.stallSeconds = 1
    return limits
  }

  /// More half-sent payloads than memory: the oldest always gets through, so all do.
  @Test func halfSentWritesAllFinish() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 256 << 20), limits: limits(extraBytes: 4 * mebibyte))
    let (count, length) = (8, 12 * mebibyte)
    let path = server.path
    onThreads(count) { index in
      let client = try RawClient.connect(unix: path)
      let payload = bytes(UInt8(index + 1), length)
      client.expect(Cmd.write, cookie: 1, offset: UInt64(index * length), length: UInt32(length))
      try client.socket.send(
        requestBytes(Cmd.write, cookie: 1, offset: UInt64(index * length), length: UInt32(length)))
      for start in stride(from: 0, to: length, by: length / 4) {
        try client.socket.send(Array(payload[start..<start + length / 4]))
        Thread.sleep(forTimeInterval: 0.01)
      }
      #expect(try client.receiveReply().isSuccess)
      try client.disconnect()
    }
    let reader = try server.client()
    for index in 0..<count {
      #expect(try reader.read(UInt64(index * length), 4096).data == bytes(UInt8(index + 1), 4096))
    }
  }

  /// It would keep the memory for ever that others wait for.
  @Test func silentHolderIsClosedWhenOthersWait() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 64 << 20), limits: limits(extraBytes: 4 * mebibyte))
    let (silent, patient) = (try server.client(), try server.client())
    try silent.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: UInt32(8 * mebibyte)))
    try silent.socket.send(bytes(1, 4 * mebibyte))
    #expect(eventually(seconds: 5) { server.server.chargedBytes >= 4 * mebibyte })
    #expect(try patient.read(0, UInt32(3 * mebibyte)).data.count == 3 * mebibyte)
    #expect(eventually(seconds: 5) { silent.socket.hasEnded() })
  }

  /// Nobody waits, so nobody is closed: a guest may be paused for hours.
  @Test func silentHolderStaysWhenNobodyWaits() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 64 << 20), limits: limits(extraBytes: 64 * mebibyte))
    let (silent, other) = (try server.client(), try server.client())
    let payload = bytes(1, 8 * mebibyte)
    silent.expect(Cmd.write, cookie: 1, offset: 0, length: UInt32(payload.count))
    try silent.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: UInt32(payload.count)))
    try silent.socket.send(Array(payload[..<(4 * mebibyte)]))
    #expect(try other.read(0, UInt32(8 * mebibyte)).isSuccess)
    #expect(!eventually(seconds: 2.5) { silent.socket.hasEnded() })
    try silent.socket.send(Array(payload[(4 * mebibyte)...]))
    #expect(try silent.receiveReply().isSuccess)
  }

  /// A client that does not read its replies stops itself, and holds about what it may owe.
  @Test func clientThatDoesNotReadIsNotReadEither() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 64 << 20))
    // Simple replies: a hole would be sent as such.
    let (silent, other) = (try server.client(structured: false), try server.client())
    let count = 4000
    for cookie in 1...UInt64(count) { silent.expect(Cmd.read, cookie: cookie, offset: 0, length: 64 << 10) }
    let requests = (1...UInt64(count)).flatMap { requestBytes(Cmd.read, cookie: $0, offset: 0, length: 64 << 10) }
    try silent.socket.send(requests)
    var most = 0
    _ = eventually(seconds: 0.3) {
      most = max(most, server.server.chargedBytes)
      return false
    }
    #expect(most > 0)
    #expect(most <= Limits().sendQueuePauseBytes + 2 * Limits.workerBufferBytes, "of 250 MiB asked for")
    #expect(try other.read(0, 512).isSuccess)
    for _ in 0..<count { #expect(try silent.receiveReply().isSuccess) }
    #expect(eventually(seconds: 5) { server.server.chargedBytes == 0 })
  }
}
