// What an operator may say about an export: window, block sizes, TRIM, durability, limits, who may have it, and its growth.

import BlockBackend
import DaemonHarness
import Foundation
import HoldfastServer
import Locking
import NBDClient
import NBDServerCore
import SparseFile
import SystemPackage
import TestBackends
import Testing

private let lanes = Lanes(workersAwakeMax: 16)

/// A server with one export, "disk", which `change` makes something special.
private func server(_ backend: any BlockBackend, _ change: (inout Export) -> Void) throws -> InProcessServer {
  let image = Image(backend: backend, lanes: lanes)
  var export = Export(name: "disk", aliases: [""], isReadOnly: false, image: image)
  change(&export)
  return try InProcessServer(exports: [export], image: image)
}

private func goReply(_ server: InProcessServer) throws -> OptionReply {
  let client = RawClient(try server.socket(timeoutSeconds: 10))
  try client.greet()
  return try client.finalReply(Option.go, infoOptionData(""))
}

@Suite struct ExportTermsTests {
  // MARK: Windows

  @Test(arguments: [true, false]) func aWindowBeginsAtItsOffset(isLocal: Bool) throws {
    let memory = isLocal ? MemoryBackend(sizeBytes: 4 << 20) : remoteMemory(sizeBytes: 4 << 20)
    let server = try server(memory) { $0.window = ExportWindow(offsetBytes: 1 << 20, sizeBytes: 2 << 20) }
    try server.server.add(Export(name: "whole", isReadOnly: false, image: server.image))
    let client = try server.client()
    let whole = try RawClient.connect(unix: server.path, export: "whole")
    #expect(client.export.sizeBytes == 2 << 20)
    #expect(try client.write(0, bytes(1, 4096)).isSuccess)
    #expect(try client.write((2 << 20) - 4096, bytes(2, 4096)).isSuccess)
    #expect(try whole.read(1 << 20, 4096).data == bytes(1, 4096))
    #expect(try whole.read((3 << 20) - 4096, 4096).data == bytes(2, 4096))
    #expect(try whole.read(0, 4096).data == bytes(0, 4096))
    // Replies count as the client does: chunks of data and holes, long and short, and the first byte that cannot be had.
    let all = try client.read(0, 2 << 20)
    #expect(all.data.prefix(4096) == bytes(1, 4096)[...] && all.data.suffix(4096) == bytes(2, 4096)[...])
    #expect(try client.read(0, 4096).data == bytes(1, 4096))
    let beyond = try client.read((2 << 20) - 4096, 8192)
    #expect(beyond.error == NBDErrno.invalid && beyond.errorOffset ?? (2 << 20) == 2 << 20)
    #expect(try client.write(2 << 20, bytes(9, 512)).error == NBDErrno.noSpace)
    let status = try client.call(Cmd.blockStatus, offset: 0, length: 2 << 20)
    #expect(status.extents["base:allocation"]?.reduce(0) { $0 + UInt64($1.lengthBytes) } == 2 << 20)
    #expect(try client.call(Cmd.writeZeroes, offset: 0, length: 4096).isSuccess)
    #expect(try client.call(Cmd.trim, offset: (2 << 20) - 4096, length: 4096).isSuccess)
    #expect(try whole.read(1 << 20, 4096).data == bytes(0, 4096))
    #expect(try whole.read((3 << 20) - 4096, 4096).data == bytes(0, 4096))
    #expect(try whole.write(0, bytes(8, 4096)).isSuccess && whole.write(3 << 20, bytes(8, 4096)).isSuccess)
    #expect(try client.read(0, 2 << 20).data.allSatisfy { $0 == 0 })
  }

  /// Range locks are those of the image (I5): what two windows share is locked for both.
  @Test func windowsOfOneImageLockTheSameBytes() throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 4 << 20))
    let server = try server(gate) { $0.window = ExportWindow(offsetBytes: 1 << 20, sizeBytes: 2 << 20) }
    defer { gate.open() }
    try server.server.add(
      Export(
        name: "other", isReadOnly: false, image: server.image,
        window: ExportWindow(offsetBytes: 2 << 20, sizeBytes: 2 << 20)))
    let (client, other) = (try server.client(), try RawClient.connect(unix: server.path, export: "other"))
    gate.close(.write)
    try client.submit(Cmd.write, offset: 1 << 20, length: 4096, payload: bytes(5, 4096))
    #expect(gate.waitUntilHeld(.write))
    let behind = try other.submit(Cmd.read, offset: 0, length: 4096)
    #expect(other.staysSilent(milliseconds: 100))
    // The same offset of the other window is another byte of the image.
    let beside = try other.submit(Cmd.read, offset: 1 << 20, length: 4096)
    #expect(try other.receiveReply().cookie == beside)
    gate.open()
    let read = try other.receiveReply()
    #expect(read.cookie == behind && read.data == bytes(5, 4096))
  }

  @Test func aWindowThatDoesNotFitIsRefused() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    var export = Export(name: "part", isReadOnly: false, image: server.image)
    export.window = ExportWindow(offsetBytes: 512 << 10, sizeBytes: 1 << 20)
    #expect(
      throws: ExportChangeError.doesNotFit(
        "part", why: "the window ends at byte 1572864, behind the end of the image, 1048576")
    ) { try server.server.add(export) }
    #expect(server.server.exportCount == 1)
  }

  // MARK: Block sizes

  @Test func blockSizesAreToldAndEnforced() throws {
    let server = try server(MemoryBackend(sizeBytes: (8 << 20) + 100)) {
      $0.blockSizes = BlockSizes(minimum: 4096, preferred: 65536, maximum: 1 << 20)
    }
    let client = try server.client()
    #expect(client.export.blockSizes == [4096, 65536, 1 << 20])
    // The tail could not be addressed.
    #expect(client.export.sizeBytes == 8 << 20)
    #expect(try client.read(512, 4096).error == NBDErrno.invalid)
    #expect(try client.write(0, bytes(1, 512)).error == NBDErrno.invalid)
    #expect(try client.read(0, (1 << 20) + 4096).error == NBDErrno.invalid)
    #expect(try client.write(0, bytes(1, 1 << 20)).isSuccess)
    #expect(try client.call(Cmd.writeZeroes, offset: 0, length: 4 << 20).isSuccess)
  }

  // MARK: TRIM and durability

  @Test func anIgnoredTrimDoesNothing() throws {
    let gate = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try server(gate) { $0.ignoresTrim = true }
    let client = try server.client()
    #expect(client.export.flags & ExportFlag.sendTrim != 0)
    #expect(try client.write(0, bytes(1, 4096)).isSuccess)
    #expect(try client.call(Cmd.trim, offset: 0, length: 4096).isSuccess)
    #expect(try client.read(0, 4096).data == bytes(1, 4096))
    #expect(!gate.arrived.contains { $0.kind == .trim })
    // FUA still covers what this client wrote before it.
    #expect(try client.call(Cmd.trim, flags: CmdFlag.fua, offset: 0, length: 4096).isSuccess)
    #expect(gate.finished.contains { $0.kind == .sync })
  }

  @Test(arguments: [true, false]) func alwaysSyncsBeforeTheReply(isLocal: Bool) throws {
    let gate = GateBackend(isLocal ? MemoryBackend(sizeBytes: 8 << 20) : remoteMemory(sizeBytes: 8 << 20))
    let server = try server(gate) { $0.durability = .always }
    defer { gate.open() }
    let client = try server.client()
    let changes: [(UInt16, Int)] = [(Cmd.write, 4096), (Cmd.write, 4 << 20), (Cmd.trim, 4096), (Cmd.writeZeroes, 4096)]
    for (command, length) in changes {
      gate.close(.sync)
      let syncs = gate.finished.count { $0.kind == .sync }
      let cookie = try client.submit(
        command, offset: 0, length: UInt32(length), payload: command == Cmd.write ? bytes(1, length) : nil)
      #expect(gate.waitUntilHeld(.sync), "command \(command) of \(length) bytes")
      #expect(client.staysSilent(milliseconds: 20))
      gate.open()
      #expect(try client.receiveReply().cookie == cookie)
      #expect(gate.finished.count { $0.kind == .sync } == syncs + 1)
    }
    let syncs = gate.finished.count { $0.kind == .sync }
    #expect(try client.read(0, 4096).isSuccess)
    #expect(gate.finished.count { $0.kind == .sync } == syncs)
  }

  @Test func neverSyncsNothingBeforeTheEnd() throws {
    let gate = GateBackend(MemoryBackend(sizeBytes: 8 << 20))
    let server = try server(gate) { $0.durability = .never }
    let client = try server.client()
    #expect(try client.write(0, bytes(1, 4096), flags: CmdFlag.fua).isSuccess)
    #expect(try client.write(0, bytes(1, 4 << 20), flags: CmdFlag.fua).isSuccess)
    #expect(try client.call(Cmd.flush).isSuccess)
    #expect(!gate.arrived.contains { $0.kind == .sync })
    server.stop()
    #expect(gate.arrived.contains { $0.kind == .sync })
  }

  /// Open connections keep what they have; the next one gets the new terms.
  @Test func changedTermsAreForTheNextConnection() throws {
    let gate = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try server(gate) { _ in }
    let old = try server.client()
    var export = Export(name: "disk", aliases: [""], isReadOnly: false, image: server.image)
    (export.ignoresTrim, export.description) = (true, "changed")
    try server.server.change("disk", to: export)
    let new = try server.client()
    #expect(new.export.description == "changed")
    #expect(try new.call(Cmd.trim, offset: 0, length: 4096).isSuccess)
    #expect(!gate.arrived.contains { $0.kind == .trim })
    #expect(try old.call(Cmd.trim, offset: 0, length: 4096).isSuccess)
    #expect(gate.arrived.contains { $0.kind == .trim })
  }

  // MARK: Limits

  @Test func connectionsOfAnExportAreLimited() throws {
    let server = try server(MemoryBackend(sizeBytes: 1 << 20)) { $0.limits.connections = 2 }
    let clients = [try server.client(), try server.client()]
    let refused = try goReply(server)
    #expect(refused.type == OptionReplyType.policy && refused.text.contains("2 connections"))
    try clients[0].disconnect()
    #expect(eventually(seconds: 10) { (try? goReply(server).type) == OptionReplyType.ack })
    withExtendedLifetime(clients) {}
  }

  /// The others wait unread, and all are answered when there is room again.
  @Test func requestsInFlightOfAnExportAreLimited() throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try server(gate) { $0.limits.requestsInFlight = 4 }
    defer { gate.open() }
    let clients = [try server.client(), try server.client(), try server.client()]
    gate.close(.read)
    for client in clients {
      for index in 0..<20 { try client.submit(Cmd.read, offset: UInt64(index) * 4096, length: 4096) }
    }
    #expect(gate.waitUntilHeld(.read, count: 4))
    usleep(100_000)
    let peak = server.server.exportSnapshot()[0].requestsInFlight
    #expect((4...4 + clients.count).contains(peak), "\(peak) in flight")
    gate.open()
    for client in clients { for _ in 0..<20 { #expect(try client.receiveReply().isSuccess) } }
    #expect(server.server.exportSnapshot()[0].requestsInFlight == 0)
  }

  @Test func aLimitThatIsTakenAwayLetsThoseGoOnWhoWait() throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try server(gate) { $0.limits.requestsInFlight = 1 }
    defer { gate.open() }
    let clients = [try server.client(), try server.client()]
    gate.close(.read)
    for client in clients { for _ in 0..<3 { try client.submit(Cmd.read, offset: 0, length: 4096) } }
    #expect(gate.waitUntilHeld(.read, count: 1))
    try server.server.change("disk", to: Export(name: "disk", aliases: [""], isReadOnly: false, image: server.image))
    #expect(gate.waitUntilHeld(.read, count: 4))
    gate.open()
    for client in clients { for _ in 0..<3 { #expect(try client.receiveReply().isSuccess) } }
  }

  /// Large WRITEs that wait for the disk hold their payloads: more of them are not taken, those of the other export are.
  @Test func memoryOfAnExportIsLimited() throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 256 << 20))
    let server = try server(gate) { $0.limits.bytes = 8 << 20 }
    defer { gate.open() }
    try server.server.add(Export(name: "other", isReadOnly: false, image: server.image))
    let clients = try (0..<6).map { _ in try server.client() }
    gate.close(.write)
    onThreads(clients.count) { index in
      try clients[index].submit(
        Cmd.write, offset: UInt64(index) << 24, length: 256 << 10, payload: bytes(1, 256 << 10))
    }
    let threads = clients.map { client in
      let thread = Thread {
        for index in 0..<16 {
          _ = try? client.submit(
            Cmd.write, offset: UInt64(index + 1) << 20, length: 1 << 20, payload: bytes(1, 1 << 20))
        }
      }
      thread.start()
      return thread
    }
    #expect(gate.waitUntilHeld(.write, count: 6))
    usleep(200_000)
    // One maximum payload beyond the limit, and a little for each connection.
    #expect(server.server.chargedBytes < 48 << 20, "\(server.server.chargedBytes)")
    gate.open()
    for client in clients { for _ in 0..<17 { #expect(try client.receiveReply().isSuccess) } }
    withExtendedLifetime(threads) {}
  }

  // MARK: Who may have it

  @Test func othersAreRefusedWithAText() throws {
    let server = try server(MemoryBackend(sizeBytes: 1 << 20)) { $0.access = [.unixUser(geteuid() + 1)] }
    try server.server.add(
      Export(name: "mine", isReadOnly: false, image: server.image, access: [.unixUser(geteuid())]))
    let client = RawClient(try server.socket())
    try client.greet()
    try client.negotiateStructured()
    let data = infoOptionData("disk")
    for option in [Option.info, Option.go] {
      let reply = try client.finalReply(option, data)
      #expect(reply.type == OptionReplyType.policy && reply.text.contains("not for clients"))
    }
    #expect(
      try client.finalReply(Option.setMetaContext, metaContextData("disk", ["base:allocation"])).type
        == OptionReplyType.policy)
    #expect(try client.option(Option.list).count == 2)
    try client.go("mine")
    #expect(try client.read(0, 512).isSuccess)
  }

  // MARK: Growing

  @Test func oldConnectionsKeepTheSizeTheyWereTold() throws {
    try withScratch { scratch in
      let path = try scratch.makeImage(sizeBytes: 1 << 20)
      let file = try ImageFile.open(path: FilePath(path))
      let server = try InProcessServer(file)
      try server.server.add(
        Export(
          name: "part", isReadOnly: false, image: server.image, window: ExportWindow(offsetBytes: 0, sizeBytes: 4096)))
      let old = try server.client()
      #expect(try server.server.grow("disk", to: 4 << 20) == (1 << 20, 4 << 20))
      let new = try server.client()
      #expect(old.export.sizeBytes == 1 << 20 && new.export.sizeBytes == 4 << 20)
      #expect(try old.write(1 << 20, bytes(1, 512)).error == NBDErrno.noSpace)
      #expect(try new.write((4 << 20) - 512, bytes(1, 512)).isSuccess)
      #expect(try new.call(Cmd.trim, offset: 0, length: 4 << 20).isSuccess)
      #expect(try old.write((1 << 20) - 512, bytes(1, 512)).isSuccess)
      #expect(try RawClient.connect(unix: server.path, export: "part").export.sizeBytes == 4096)
      #expect(throws: ExportChangeError.cannotGrow("disk", why: "its image has 4194304 bytes, and images only grow")) {
        _ = try server.server.grow("disk", to: 1 << 20)
      }
    }
  }

  /// Its sync is one of the image: what fails is latched, and nobody is told the new size before one has succeeded (I7).
  @Test func aSizeThatIsNotDurableIsNotTold() throws {
    try withScratch { scratch in
      let path = try scratch.makeImage(sizeBytes: 1 << 20)
      let isBroken = Locked(true)
      let file = try ImageFile.open(path: FilePath(path)) { call in
        call.kind == .sync && isBroken.withLock { $0 } ? .fail(.ioError) : .perform
      }
      let server = try InProcessServer(file)
      for _ in 0..<2 {
        #expect(throws: ExportChangeError.cannotGrow("disk", why: "\(Errno.ioError)")) {
          _ = try server.server.grow("disk", to: 4 << 20)
        }
      }
      #expect(server.image.latchedError == .ioError)
      #expect(try server.client().export.sizeBytes == 1 << 20)
      isBroken.withLock { $0 = false }
      #expect(try server.client().call(Cmd.flush).error == NBDErrno.io)
      #expect(try server.image.clearError() == .ioError)
      #expect(try server.server.grow("disk", to: 4 << 20) == (1 << 20, 4 << 20))
      #expect(try server.client().export.sizeBytes == 4 << 20)
    }
  }

  @Test func whatCannotGrowSaysSo() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    #expect(
      throws: ExportChangeError.cannotGrow("disk", why: "only regular files that are open for writing grow")
    ) { _ = try server.server.grow("disk", to: 2 << 20) }
  }
}
