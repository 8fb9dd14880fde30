// READs that are in flight on a worker's io_uring: short counts, clients that die, a server that stops, a kernel that refuses.

import BlockBackend
import DaemonHarness
import Foundation
import HoldfastServer
import NBDClient
import NBDServerCore
import TestBackends
import Testing

@Suite(.serialized) struct ColdReadTests {
  /// What is read through the pipe, and differs from what the memory behind it holds.
  private func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8($0 % 251) } }

  private func server(
    _ backend: PipeBackend, limits: Limits = Limits(), coldReads: ColdReadMode = .ring(), workersMax: Int = 128
  ) throws -> InProcessServer {
    try InProcessServer(backend, limits: limits, coldReads: coldReads, workersMax: workersMax)
  }

  /// A READ behind a WRITE of one byte at 0: it has company, so the worker does not wait for it.
  private func send(_ client: RawClient, at offset: UInt64, _ length: UInt32) throws -> (write: UInt64, read: UInt64) {
    let (write, read): (UInt64, UInt64) = (offset << 8 | 1, offset << 8 | 2)
    client.expect(Cmd.write, cookie: write, offset: 0, length: 1)
    client.expect(Cmd.read, cookie: read, offset: offset, length: length)
    try client.socket.send(
      requestBytes(Cmd.write, cookie: write, offset: 0, length: 1) + [9]
        + requestBytes(Cmd.read, cookie: read, offset: offset, length: length))
    return (write, read)
  }

  /// A READ that stays in flight until it is fed.
  private func beginRead(_ client: RawClient, at offset: UInt64, _ length: UInt32) throws -> UInt64 {
    let cookies = try send(client, at: offset, length)
    #expect(try client.receiveReply().cookie == cookies.write)
    return cookies.read
  }

  /// What a READ in company returns that nobody has to feed.
  private func read(_ client: RawClient, at offset: UInt64, _ length: UInt32) throws -> [UInt8] {
    let cookies = try send(client, at: offset, length)
    let replies = [try client.receiveReply(), try client.receiveReply()]
    return replies.first { $0.cookie == cookies.read }?.data ?? []
  }

  private func memory() -> PipeBackend { PipeBackend(MemoryBackend(sizeBytes: 1 << 20)) }

  /// A pipe has no offsets, so here is a file: it ends where the first count does, so that the ring gets no more of it, and the
  /// slow lane has to answer.
  @Test func restOfAShortCountIsReadFromItsPlace() throws {
    try withScratch { scratch in
      let content = pattern(16_384)
      let path = URL(filePath: scratch.file("short"))
      try Data(content.prefix(8192)).write(to: path)
      let file = try FileHandle(forReadingFrom: path)
      let memory = MemoryBackend(sizeBytes: 1 << 20)
      try memory.write(content.rawBytes, at: 0)
      let backend = OtherFileBackend(memory, readsFrom: file.fileDescriptor)
      let server = try InProcessServer(backend, coldReads: .ring())
      #expect(try read(try server.client(), at: 4096, 8192) == Array(content[4096..<12_288]))
      server.stop()
    }
  }

  @Test(arguments: [true, false]) func readIsContinuedAfterEachShortCount(structured: Bool) throws {
    let backend = memory()
    let server = try server(backend)
    let client = try server.client(structured: structured)
    let cookie = try beginRead(client, at: 8192, 5000)
    let expected = pattern(5000)
    var rest = expected[...]
    for count in [1, 100, 3, 2000, 895, 2001] {
      #expect(client.staysSilent(milliseconds: 20))
      backend.feed(Array(rest.prefix(count)))
      rest = rest.dropFirst(count)
    }
    let reply = try client.receiveReply()
    #expect(reply.cookie == cookie)
    #expect(reply.data == expected)
    #expect(server.image.ringReadCount == 1)
    try client.disconnect()
  }

  @Test func connectionGoesOnBesideAReadInFlight() throws {
    let backend = memory()
    let server = try server(backend)
    let client = try server.client()
    let cookie = try beginRead(client, at: 8192, 100)
    #expect(try client.write(65536, bytes(7, 100), flags: CmdFlag.fua).isSuccess)
    // What overlaps waits; what comes behind it does not.
    let overlapping = try client.submit(Cmd.write, offset: 8191, length: 2, payload: [1, 1])
    #expect(try client.receive(client.submit(Cmd.write, offset: 0, length: 1, payload: [1])).isSuccess)
    #expect(client.staysSilent())
    backend.feed(pattern(100))
    // The lock is released before the reply goes out: the WRITE may be answered first.
    let replies = [try client.receiveReply(), try client.receiveReply()]
    #expect(replies.first { $0.cookie == cookie }?.data == pattern(100))
    #expect(replies.first { $0.cookie == overlapping }?.isSuccess == true)
    try client.disconnect()
  }

  /// I6.
  @Test func readOfADeadClientKeepsItsLock() throws {
    let backend = memory()
    let server = try server(backend)
    let reader = try server.client()
    _ = try beginRead(reader, at: 8192, 100)
    let writer = try server.client()
    reader.socket.reset()
    try writer.submit(Cmd.write, offset: 8192, length: 1, payload: [1])
    #expect(writer.staysSilent())
    #expect(server.server.connectionCount == 2)
    backend.feed(pattern(100))
    #expect(try writer.receiveReply().isSuccess)
    try writer.disconnect()
    expectNothingLeft(server)
  }

  @Test(arguments: [true, false]) func shutdownWaitsForReadsInFlight(clientReads: Bool) throws {
    let backend = memory()
    var limits = Limits()
    limits.shutdownSeconds = clientReads ? 60 : 1
    let server = try server(backend, limits: limits)
    let client = try server.client()
    let cookie = try beginRead(client, at: 8192, 100)
    let stopping = server.beginStop()
    #expect(!stopping.ends(withinSeconds: clientReads ? 0.5 : 1.5))
    backend.feed(pattern(100))
    if clientReads { #expect(try client.receive(cookie).data == pattern(100)) }
    #expect(stopping.ends(withinSeconds: 10))
    expectNothingLeft(server)
  }

  /// DISC: what was received before is answered.
  @Test func readsAreAnsweredAfterDisconnect() throws {
    let backend = memory()
    let server = try server(backend)
    let client = try server.client()
    let cookie = try beginRead(client, at: 8192, 100)
    try client.socket.send(requestBytes(Cmd.disconnect, cookie: 0, offset: 0, length: 0))
    #expect(client.staysSilent())
    backend.feed(pattern(100))
    #expect(try client.receive(cookie).data == pattern(100))
    #expect(try client.socket.receiveUntilEnd().isEmpty)
    expectNothingLeft(server)
  }

  /// Two workers wait for the image, no more; the third client's READ takes the slow lane.
  @Test func hungImageHoldsHalfOfTheWorkers() throws {
    let backend = memory()
    let server = try server(backend, workersMax: 4)
    let held = try (0..<2).map { _ in try server.client() }
    let cookies = try held.map { try beginRead($0, at: 8192, 100) }
    let third = try server.client()
    #expect(try read(third, at: 8192, 100) == bytes(0, 100))
    #expect(server.image.ringReadCount == 2)
    backend.feed(bytes(5, 200))
    for (client, cookie) in zip(held, cookies) { #expect(try client.receive(cookie).data == bytes(5, 100)) }
  }

  /// A lone READ is read by the worker itself, without the ring.
  @Test func loneReadDoesNotNeedTheRing() throws {
    let server = try server(memory())
    let client = try server.client()
    for _ in 0..<10 { #expect(try client.read(4096, 512).data == bytes(0, 512)) }
    #expect(server.image.ringReadCount == 0)
  }

  /// No entries: what every kernel refuses.
  @Test(arguments: [ColdReadMode.ring(slots: 0), .threads]) func withoutARingThreadsRead(mode: ColdReadMode) throws {
    let server = try server(memory(), coldReads: mode)
    let client = try server.client()
    for _ in 0..<3 { #expect(try read(client, at: 8192, 512) == bytes(0, 512)) }
    #expect(server.image.ringReadCount == 0)
    try client.disconnect()
    expectNothingLeft(server)
  }

  /// What fails on the ring is tried again on the slow lane, which knows what to tell the client.
  @Test func whatTheRingCannotReadTheSlowLaneReads() throws {
    let server = try server(PipeBackend(MemoryBackend(sizeBytes: 1 << 20), isWrongWay: true))
    let client = try server.client()
    for _ in 0..<3 { #expect(try read(client, at: 8192, 512) == bytes(0, 512)) }
    #expect(server.image.ringReadCount == 3)
    try client.disconnect()
    expectNothingLeft(server)
  }

  /// More than the ring has slots for.
  @Test func whatHasNoSlotTakesTheSlowLane() throws {
    let backend = memory()
    let server = try server(backend, coldReads: .ring(slots: 2))
    let client = try server.client()
    let cookies = (1...5).map { UInt64($0) }
    for cookie in cookies { client.expect(Cmd.read, cookie: cookie, offset: 4096 * cookie, length: 100) }
    try client.socket.send(
      cookies.flatMap { requestBytes(Cmd.read, cookie: $0, offset: 4096 * $0, length: 100) })
    for _ in 0..<3 { #expect(try client.receiveReply().data == bytes(0, 100)) }
    backend.feed(bytes(5, 200))
    for _ in 0..<2 { #expect(try client.receiveReply().data == bytes(5, 100)) }
    #expect(server.image.ringReadCount == 2)
  }

  private func expectNothingLeft(_ server: InProcessServer) {
    #expect(eventually(seconds: 10) { server.server.connectionCount == 0 })
    #expect(server.server.chargedBytes == 0)
    #expect(server.image.lockCounts == (0, 0))
  }
}
