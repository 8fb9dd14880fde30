// What hangs is told of while it hangs and when it has ended, once each; what connections did is summed up when they go.

import BlockBackend
import DaemonHarness
import HoldfastServer
import Locking
import Logging
import NBDClient
import NBDServerCore
import TestBackends
import Testing

/// Keeps what was logged.
final class LogRecorder: LogHandler, Sendable {
  struct Line: Sendable {
    var level: Logger.Level
    var text: String
    var fields: [String: String]
  }

  private let kept = Locked<[Line]>([])

  var metadata: Logger.Metadata {
    get { [:] }
    set {}
  }
  var logLevel: Logger.Level {
    get { .info }
    set {}
  }
  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { nil }
    set {}
  }

  func log(event: LogEvent) {
    let line = Line(
      level: event.level, text: "\(event.message)", fields: (event.metadata ?? [:]).mapValues { "\($0)" })
    kept.withLock { $0.append(line) }
  }

  var lines: [Line] { kept.withLock { $0 } }

  func lines(with text: String) -> [Line] { lines.filter { $0.text.contains(text) } }
}

@Suite struct SlowOperationTests {
  private var limits: Limits {
    var limits = Limits()
    limits.slowOperationMilliseconds = 100
    return limits
  }

  /// On the slow lane, and in the hands of the worker itself.
  @Test(arguments: [true, false]) func aHeldWriteIsToldOfTwice(isLocal: Bool) throws {
    let recorder = LogRecorder()
    let gate = GateBackend(isLocal ? MemoryBackend(sizeBytes: 1 << 20) : remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate, limits: limits, log: recorder)
    defer { gate.open() }
    let client = try server.client()
    #expect(try client.write(0, bytes(1, 512)).isSuccess)
    gate.close(.write)
    try client.submit(Cmd.write, offset: 4096, length: 512, payload: bytes(1, 512))
    #expect(gate.waitUntilHeld(.write))
    #expect(eventually(seconds: 5) { recorder.lines(with: "has been in flight").count == 1 })
    let told = try #require(recorder.lines(with: "has been in flight").first)
    #expect(told.level == .warning)
    #expect(told.text.hasPrefix("NBD_CMD_WRITE 4096+512 of export \"disk\" has been in flight for "))
    #expect(told.fields["command"] == "write" && told.fields["offset"] == "4096" && told.fields["length"] == "512")
    #expect(told.fields["export"] == "disk" && told.fields["connection"] == "1")

    let status = server.server.status()
    #expect(status.slowOperations.map(\.offset) == [4096])
    #expect(status.slowOperations.map(\.state) == [.disk])
    #expect(status.slowOperations.allSatisfy { $0.ageSeconds >= 0.1 && $0.command == .write && $0.length == 512 })

    gate.open()
    #expect(try client.receiveReply().isSuccess)
    #expect(eventually(seconds: 5) { recorder.lines(with: "ended after").count == 1 })
    #expect(recorder.lines(with: "NBD_CMD_WRITE 4096+512 of export \"disk\" ended after").count == 1)
    #expect(server.server.status().slowOperations.isEmpty)
    #expect(recorder.lines(with: "has been in flight").count == 1)
  }

  /// The worker waits for what is not in memory; it is no shorter wait for a short READ.
  @Test func aLoneReadThatHangsIsToldOf() throws {
    let recorder = LogRecorder()
    let gate = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(PipeBackend(gate), limits: limits, log: recorder)
    defer { gate.open() }
    let client = try server.client()
    gate.close(.read)
    try client.submit(Cmd.read, offset: 4096, length: 4096)
    #expect(gate.waitUntilHeld(.read))
    #expect(eventually(seconds: 5) { recorder.lines(with: "has been in flight").count == 1 })
    #expect(recorder.lines(with: "NBD_CMD_READ 4096+4096 of export \"disk\" has been in flight for ").count == 1)
    #expect(server.server.status().slowOperations.map(\.offset) == [4096])
    gate.open()
    #expect(try client.receiveReply().isSuccess)
    #expect(eventually(seconds: 5) { recorder.lines(with: "ended after").count == 1 })
    #expect(server.server.status().slowOperations.isEmpty)
  }

  /// The write is done, and named no more: what hangs is its sync, under the number of the request.
  @Test func aSyncThatHangsIsToldOfOnce() throws {
    let recorder = LogRecorder()
    let gate = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate, limits: limits, log: recorder)
    defer { gate.open() }
    let client = try server.client()
    // Quick syncs are made on the worker itself.
    for _ in 0..<2 { #expect(try client.write(0, bytes(1, 512), flags: 1).isSuccess) }
    gate.close(.sync)
    try client.submit(Cmd.write, flags: 1, offset: 4096, length: 512, payload: bytes(1, 512))
    #expect(gate.waitUntilHeld(.sync))
    #expect(eventually(seconds: 5) { !recorder.lines(with: "has been in flight").isEmpty })
    #expect(server.server.status().slowOperations.map(\.offset) == [4096])
    gate.open()
    #expect(try client.receiveReply().isSuccess)
    #expect(eventually(seconds: 5) { !recorder.lines(with: "ended after").isEmpty })
    #expect(recorder.lines(with: "has been in flight").count == 1)
  }

  @Test func whoWaitsForALockIsToldSo() throws {
    let recorder = LogRecorder()
    let gate = GateBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate, limits: limits, log: recorder)
    defer { gate.open() }
    let client = try server.client()
    gate.close(.write)
    for _ in 0..<2 { try client.submit(Cmd.write, offset: 0, length: 512, payload: bytes(1, 512)) }
    #expect(eventually(seconds: 5) { recorder.lines(with: "waits for another operation on its range").count == 1 })
    #expect(recorder.lines(with: "waits for the disk").count == 1)
    #expect(Set(server.server.status().slowOperations.map(\.state)) == [.lock, .disk])
    gate.open()
    for _ in 0..<2 { #expect(try client.receiveReply().isSuccess) }
    #expect(eventually(seconds: 5) { recorder.lines(with: "ended after").count == 2 })
  }

  /// A thousand that hang are not a thousand lines.
  @Test func manyThatHangFillNoLog() throws {
    let recorder = LogRecorder()
    let gate = GateBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate, limits: limits, log: recorder)
    defer { gate.open() }
    let client = try server.client()
    gate.close(.write)
    for block in 0..<100 as Range<UInt64> {
      try client.submit(Cmd.write, offset: block * 512, length: 512, payload: bytes(1, 512))
    }
    #expect(eventually(seconds: 5) { !recorder.lines(with: "more operations").isEmpty })
    #expect(recorder.lines(with: "has been in flight").count == 16)
    #expect(server.server.status().slowOperations.count == ServerStatus.slowOperationsMax)
    #expect(eventually(seconds: 5) { recorder.lines(with: "has been in flight").count >= 32 })
    gate.open()
    for _ in 0..<100 { #expect(try client.receiveReply().isSuccess) }
    #expect(eventually(seconds: 5) { !recorder.lines(with: "that took long have ended").isEmpty })
  }

  @Test func quickOnesAreNotToldOf() throws {
    let recorder = LogRecorder()
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20), limits: Limits(), log: recorder)
    let client = try server.client()
    for _ in 0..<20 { #expect(try client.write(0, bytes(1, 512)).isSuccess) }
    #expect(server.server.status().slowOperations.isEmpty)
    #expect(recorder.lines(with: "in flight").isEmpty)
  }

  @Test func aConnectionIsSummedUpWhenItGoes() throws {
    let recorder = LogRecorder()
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20), log: recorder)
    let client = try server.client()
    for _ in 0..<3 { #expect(try client.write(0, bytes(1, 4096)).isSuccess) }
    #expect(try client.read(0, 512).isSuccess)
    #expect(!(try client.read(1 << 20, 512).isSuccess))
    #expect(try client.call(Cmd.flush).isSuccess)
    try client.disconnect()
    #expect(eventually(seconds: 5) { !recorder.lines(with: "closed after").isEmpty })
    let line = try #require(recorder.lines(with: "closed after").first)
    #expect(line.text.hasSuffix(" s: read 2 (512 bytes), write 3 (12288 bytes), flush 1; 1 error"))
    #expect(line.fields["write_bytes"] == "12288" && line.fields["requests"] == "6" && line.fields["errors"] == "1")
    #expect(recorder.lines(with: "closed after").count == 1)
  }

  @Test func failedRequestsAreLoggedWithTheirFields() throws {
    let recorder = LogRecorder()
    let faults = FaultBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(faults, log: recorder)
    let client = try server.client()
    faults.fail(.write, with: .noSpace)
    #expect(!(try client.write(8192, bytes(1, 512)).isSuccess))
    let line = try #require(recorder.lines(with: "NBD_CMD_WRITE failed").first)
    #expect(line.level == .warning)
    #expect(line.fields["errno"] == "28" && line.fields["offset"] == "8192" && line.fields["command"] == "write")
  }
}
