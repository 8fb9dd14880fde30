// Exports that come and go while clients are connected: who notices, and who does not.

import BlockBackend
import DaemonHarness
import Dispatch
import Foundation
import HoldfastServer
import Locking
import NBDClient
import NBDServerCore
import SystemPackage
import TestBackends
import Testing

private let lanes = Lanes(workersAwakeMax: 16)

private func image(_ backend: any BlockBackend) -> Image { Image(backend: backend, lanes: lanes) }

/// What became of exports that are gone.
private final class Departures: Sendable {
  private let all = Locked<[Departure]>([])
  var list: [Departure] { all.withLock { $0 } }
  func note(_ departure: Departure) { all.withLock { $0.append(departure) } }
  func first() -> Departure? {
    _ = eventually(seconds: 10) { !list.isEmpty }
    return list.first
  }
}

extension InProcessServer {
  fileprivate func client(of export: String) throws -> RawClient {
    try RawClient.connect(unix: path, export: export, timeoutSeconds: 10)
  }

  /// The answer to GO; a connection of its own.
  fileprivate func answer(_ export: String) throws -> OptionReply {
    let client = RawClient(try socket(timeoutSeconds: 10))
    try client.greet()
    return try client.finalReply(Option.go, infoOptionData(export))
  }

  fileprivate func listed() throws -> [String] {
    let client = RawClient(try socket(timeoutSeconds: 10))
    try client.greet()
    return try client.option(Option.list).dropLast().map { reply in
      var data = WireReader(reply.data)
      let count = Int(data.number(UInt32.self))
      return String(decoding: data.take(count), as: UTF8.self)
    }
  }
}

@Suite struct DynamicExportTests {
  @Test func anAddedExportIsFoundAtOnce() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let before = try server.client()
    #expect(try server.answer("new").type == OptionReplyType.unknown)
    try server.server.add(Export(name: "new", isReadOnly: false, image: image(MemoryBackend(sizeBytes: 2 << 20))))
    #expect(try server.client(of: "new").export.sizeBytes == 2 << 20)
    #expect(try server.listed() == ["disk", "new"])
    #expect(try before.write(0, bytes(1, 512)).isSuccess)
    #expect(throws: ExportChangeError.nameIsTaken("new")) {
      try server.server.add(Export(name: "new", isReadOnly: false, image: server.image))
    }
  }

  @Test func aUsedExportIsNotRefusedItsClients() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let client = try server.client()
    #expect(throws: ExportChangeError.inUse("disk", connections: 1)) { try server.server.remove("disk", .refuse) }
    #expect(try server.client().read(0, 512).isSuccess)
    try client.disconnect()
    #expect(eventually(seconds: 10) { server.server.exportSnapshot().first?.connections == 0 })
    try server.server.remove("disk", .refuse)
    #expect(try server.answer("disk").type == OptionReplyType.unknown)
    #expect(server.server.exportSnapshot().isEmpty)
  }

  @Test func aHiddenExportStaysForItsClients() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let client = try server.client()
    try server.server.remove("disk", .hide)
    #expect(try server.answer("disk").type == OptionReplyType.unknown)
    #expect(try server.listed().isEmpty)
    #expect(try client.write(0, bytes(1, 512)).isSuccess)
    #expect(throws: ExportChangeError.nameIsTaken("disk")) {
      try server.server.add(Export(name: "disk", isReadOnly: false, image: server.image))
    }
    try client.disconnect()
    try server.server.show("disk")
    #expect(try server.client().read(0, 512).data == bytes(1, 512))
  }

  /// Its name is free at once; its image is synced when its last client has gone, and not before.
  @Test func aDrainedExportGoesWithItsLastClient() throws {
    let old = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(old)
    let client = try server.client()
    let gone = Departures()
    #expect(try server.server.remove("disk", .drain) { gone.note($0) } == 1)
    try server.server.add(
      Export(name: "disk", aliases: [""], isReadOnly: false, image: image(MemoryBackend(sizeBytes: 2 << 20))))
    #expect(try server.client().export.sizeBytes == 2 << 20)
    #expect(try client.write(0, bytes(1, 512)).isSuccess)
    #expect(gone.list.isEmpty && !old.finished.contains { $0.kind == .sync })
    let id = try #require(server.server.exportSnapshot().first?.id)
    try client.disconnect()
    let departure = try #require(gone.first())
    #expect(departure.id == id && departure.wasLastOfImage && departure.syncError == nil)
    #expect(old.finished.contains { $0.kind == .sync })
    #expect(server.server.exportSnapshot().count == 1)
  }

  @Test func aFailedLastSyncIsReported() throws {
    let faults = FaultBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(faults)
    faults.fail(.sync, with: .ioError)
    let gone = Departures()
    try server.server.remove("disk", .refuse) { gone.note($0) }
    #expect(gone.first()?.syncError == .ioError)
    // The kernel reports it once: whoever shows the image again must not be told that all is well (I7).
    #expect(server.image.latchedError == .ioError)
  }

  /// The error belongs to the inode, and outlives the exports that show it, whose image goes with them (I7).
  @Test func aFailedSyncIsRememberedUntilItIsCleared() throws {
    let faults = FaultBackend(MemoryBackend(sizeBytes: 1 << 20))
    faults.fail(.sync, with: .ioError)
    let record = SyncErrorRecord()
    func open() -> Image { Image(backend: faults, lanes: lanes, record: record) }
    weak var gone: Image?
    do {
      let first = open()
      gone = first
      #expect(throws: BackendError.self) { try first.finalSync() }
    }
    #expect(eventually(seconds: 10) { gone == nil })
    #expect(record.error == .ioError)
    let second = open()
    #expect(second.latchedError == .ioError)
    #expect(throws: BackendError.self) { try second.flush() }
    #expect(try second.clearError() == .ioError)
    #expect(record.error == nil && open().latchedError == nil)
    try second.flush()
  }

  @Test func anImageIsSyncedWithItsLastExport() throws {
    let gate = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate)
    try server.server.add(Export(name: "second", isReadOnly: true, image: server.image))
    let gone = Departures()
    try server.server.remove("disk", .refuse) { gone.note($0) }
    #expect(gone.first()?.wasLastOfImage == false)
    #expect(!gate.finished.contains { $0.kind == .sync })
    try server.server.remove("second", .refuse) { gone.note($0) }
    #expect(eventually(seconds: 10) { gone.list.last?.wasLastOfImage == true })
    #expect(gate.finished.count { $0.kind == .sync } == 1)
  }

  /// What was admitted is finished and answered, then the connection is closed; nobody else's is.
  @Test func removingNowFinishesWhatWasAdmitted() throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate)
    defer { gate.open() }
    try server.server.add(Export(name: "other", isReadOnly: false, image: server.image))
    let idle = try server.client()
    let client = try server.client()
    let other = try server.client(of: "other")
    gate.close(.write)
    let held = try client.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(7, 4096))
    #expect(gate.waitUntilHeld(.write))
    let gone = Departures()
    #expect(try server.server.remove("disk", .now) { gone.note($0) } == 2)
    #expect(try idle.socket.receiveUntilEnd().isEmpty)
    // The WRITE keeps its lock: whoever wants those bytes through the other export waits for it (I5).
    let behind = try other.submit(Cmd.read, offset: 0, length: 4096)
    #expect(other.staysSilent(milliseconds: 100) && client.staysSilent(milliseconds: 1) && gone.list.isEmpty)
    gate.open()
    let reply = try client.receiveReply()
    #expect(reply.cookie == held && reply.isSuccess)
    #expect(try client.socket.receiveUntilEnd().isEmpty)
    let read = try other.receiveReply()
    #expect(read.cookie == behind && read.data == bytes(7, 4096))
    #expect(gone.first()?.wasLastOfImage == false)
    #expect(try other.write(0, bytes(1, 512)).isSuccess)
  }

  /// Who does not read is cut off in the end; and so is what waits for a drained export to go.
  @Test func aStalledClientDoesNotKeepARemovedExport() throws {
    var limits = Limits()
    limits.shutdownSeconds = 1
    let server = try InProcessServer(MemoryBackend(sizeBytes: 64 << 20), limits: limits)
    let client = try server.client()
    for index in 0..<16 {
      try client.submit(Cmd.read, flags: CmdFlag.dontFragment, offset: UInt64(index) << 20, length: 1 << 20)
    }
    let gone = Departures()
    try server.server.remove("disk", .drain) { gone.note($0) }
    #expect(gone.list.isEmpty)
    try server.server.remove("disk", .now)
    #expect(gone.first() != nil)
    #expect(server.server.connectionCount == 0)
  }

  // MARK: Pausing

  @Test(arguments: [true, false]) func pausedRequestsWaitAndNothingIsLost(isLocal: Bool) throws {
    let server = try InProcessServer(isLocal ? MemoryBackend(sizeBytes: 8 << 20) : remoteMemory(sizeBytes: 8 << 20))
    try server.server.add(Export(name: "other", isReadOnly: false, image: server.image))
    let client = try server.client()
    #expect(try client.write(0, bytes(1, 4096)).isSuccess)
    try server.server.pause("disk")
    #expect(eventually(seconds: 10) { (try? server.server.isQuiet("disk")) == true })
    // No more than a socket takes without being read.
    let count = 16
    for index in 0..<count {
      try client.submit(
        Cmd.write, offset: 0, length: 4096, payload: bytes(UInt8(index + 2), 4096), cookie: UInt64(index))
    }
    let late = try server.client()
    try late.submit(Cmd.read, offset: 4096, length: 4096)
    #expect(client.staysSilent() && late.staysSilent(milliseconds: 1))
    #expect(try server.client(of: "other").read(0, 4096).data == bytes(1, 4096))
    try server.server.resume("disk")
    for _ in 0..<count { #expect(try client.receiveReply().isSuccess) }
    #expect(try client.read(0, 4096).data == bytes(UInt8(count + 1), 4096))
    #expect(try late.receiveReply().isSuccess)
  }

  @Test func pausingFinishesWhatWasAdmitted() throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate)
    defer { gate.open() }
    let client = try server.client()
    gate.close(.write)
    try client.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(1, 4096))
    #expect(gate.waitUntilHeld(.write))
    try server.server.pause("disk")
    #expect(try !server.server.isQuiet("disk"))
    gate.open()
    #expect(try client.receiveReply().isSuccess)
    #expect(eventually(seconds: 10) { (try? server.server.isQuiet("disk")) == true })
  }

  /// Half a payload is there, the rest comes while the export is paused.
  @Test func aPausedPayloadGoesOn() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 64 << 20))
    let client = try server.client()
    let length = 8 << 20
    let request = requestBytes(Cmd.write, cookie: 5, offset: 0, length: UInt32(length))
    client.expect(Cmd.write, cookie: 5, offset: 0, length: UInt32(length))
    try client.socket.send(request + bytes(3, length / 2))
    #expect(eventually(seconds: 10) { server.server.chargedBytes >= length / 2 })
    try server.server.pause("disk")
    let sender = Box<any Error>()
    let done = DispatchSemaphore(value: 0)
    Thread {
      do { try client.socket.send(bytes(3, length / 2)) } catch { sender.value = error }
      done.signal()
    }.start()
    #expect(client.staysSilent())
    try server.server.resume("disk")
    done.wait()
    #expect(try client.receiveReply().isSuccess && sender.value == nil)
    #expect(try client.read(UInt64(length) - 4096, 4096).data == bytes(3, 4096))
  }

  @Test func aPausedExportCanBeRemoved() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let client = try server.client()
    try server.server.pause("disk")
    try client.submit(Cmd.read, offset: 0, length: 512)
    #expect(client.staysSilent(milliseconds: 50))
    let gone = Departures()
    try server.server.remove("disk", .now) { gone.note($0) }
    #expect(gone.first() != nil)
  }

  /// What an operator asked of a name holds for what comes under it, and for what had it.
  @Test func aReplacedExportStaysPaused() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let old = try server.client()
    try server.server.pause("disk")
    try server.server.replace(
      "disk",
      with: Export(name: "disk", aliases: [""], isReadOnly: false, image: image(MemoryBackend(sizeBytes: 2 << 20))))
    let new = try server.client(of: "disk")
    try old.submit(Cmd.read, offset: 0, length: 512)
    try new.submit(Cmd.read, offset: 0, length: 512)
    #expect(old.staysSilent(milliseconds: 50) && new.staysSilent(milliseconds: 50))
    try server.server.resume("disk")
    #expect(try old.receiveReply().isSuccess && new.receiveReply().isSuccess)
  }

  @Test func requestsThatComeWithGoWaitAsWell() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    try server.server.pause("disk")
    let client = RawClient(try server.socket(timeoutSeconds: 10))
    try client.greet()
    let request = requestBytes(Cmd.write, cookie: 5, offset: 0, length: 512)
    try client.socket.send(optionBytes(Option.go, infoOptionData("disk")) + request + bytes(7, 512))
    #expect(try client.receiveOptionReplies(to: Option.go).last?.type == OptionReplyType.ack)
    #expect(client.staysSilent(milliseconds: 50))
    try server.server.resume("disk")
    client.expect(Cmd.write, cookie: 5, offset: 0, length: 512)
    #expect(try client.receiveReply().isSuccess)
  }
}
