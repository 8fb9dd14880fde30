// What one connection may expect while its requests are held, and what is left of it when it ends.

import BlockBackend
import DaemonHarness
import Foundation
import HoldfastServer
import NBDClient
import NBDServerCore
import TestBackends
import Testing

@Suite struct ServerBehaviourTests {
  private func memory(isLocal: Bool, sizeBytes: UInt64 = 4 << 20) -> MemoryBackend {
    isLocal ? MemoryBackend(sizeBytes: sizeBytes) : remoteMemory(sizeBytes: sizeBytes)
  }

  // MARK: Newcomers

  /// In quick succession a worker waits for them in the loop's place, and leaves their first request to another; their
  /// requests are the same as ever, also those that come in one piece with the end of the handshake.
  @Test(arguments: [true, false]) func clientsThatComeAndGoQuicklyAreServed(isLocal: Bool) throws {
    let server = try InProcessServer(memory(isLocal: isLocal))
    let steady = try server.client()
    let path = server.path
    onThreads(4) { index in
      for round in 0..<100 {
        let client = RawClient(try RawSocket(unix: path, timeoutSeconds: 30))
        let block = bytes(UInt8(truncatingIfNeeded: index + round), 4096)
        let offset = UInt64(index * 4096)
        try client.greet()
        try client.negotiateStructured()
        if round % 5 == 4 {
          // Goes in the middle of the handshake.
          client.socket.close()
          continue
        }
        if round % 5 == 3 {
          client.expect(Cmd.write, cookie: 77, offset: offset, length: 4096)
          try client.socket.send(
            optionBytes(Option.go, infoOptionData("", []))
              + requestBytes(Cmd.write, cookie: 77, offset: offset, length: 4096) + block)
          _ = try client.receiveOptionReplies(to: Option.go)
          #expect(try client.receiveReply().isSuccess)
        } else {
          try client.go("")
          #expect(try client.write(offset, block).isSuccess)
        }
        #expect(try client.read(offset, 4096).data == block)
        try client.disconnect()
        #expect(try client.socket.receiveUntilEnd().isEmpty)
      }
    }
    #expect(try steady.read(0, 4096).isSuccess)
    #expect(eventually(seconds: 10) { server.server.connectionCount == 1 })
  }

  // MARK: What is held stops nothing else

  @Test func readsPassAFUAWriteAfterASlowSync() throws {
    let gate = GateBackend(memory(isLocal: true))
    let server = try InProcessServer(gate)
    defer { gate.open() }
    let client = try server.client()
    let block = bytes(1, 4096)
    // Quick ones, which the worker may make itself.
    for _ in 0..<3 { #expect(try client.write(0, block, flags: CmdFlag.fua).isSuccess) }
    // One that becomes slow: nothing else of this client has come yet.
    gate.close(.sync)
    let slow = try client.submit(Cmd.write, flags: CmdFlag.fua, offset: 0, length: 4096, payload: block)
    #expect(gate.waitUntilHeld(.sync))
    usleep(5000)
    gate.open()
    #expect(try client.receiveReply().cookie == slow)
    gate.close(.sync)
    let held = try client.submit(Cmd.write, flags: CmdFlag.fua, offset: 0, length: 4096, payload: block)
    #expect(gate.waitUntilHeld(.sync))
    #expect(try client.read(0, 4096).data == block)
    gate.open()
    #expect(try client.receiveReply().cookie == held)
  }

  @Test(arguments: [true, false]) func heldSyncDoesNotStopReads(isLocal: Bool) throws {
    let gate = GateBackend(memory(isLocal: isLocal))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let client = try server.client()
    gate.close(.sync)
    let fua = try client.submit(Cmd.write, flags: CmdFlag.fua, offset: 0, length: 4096, payload: bytes(1, 4096))
    let flush = try client.submit(Cmd.flush)
    #expect(gate.waitUntilHeld(.sync))
    for _ in 0..<20 {
      // Also of the block that was just written.
      let read = try client.submit(Cmd.read, offset: 0, length: 4096)
      let reply = try client.receiveReply()
      #expect(reply.cookie == read)
      #expect(reply.data == bytes(1, 4096))
    }
    #expect(client.staysSilent(milliseconds: 20))
    gate.open()
    let replies = [try client.receiveReply(), try client.receiveReply()]
    #expect(Set(replies.map(\.cookie)) == [fua, flush])
    #expect(replies.allSatisfy { $0.isSuccess })
  }

  /// A long TRIM of a local image, any TRIM of a remote one.
  @Test(arguments: [(true, 1 << 20), (false, 4096)])
  func heldTrimDoesNotStopReads(isLocal: Bool, length: Int) throws {
    let gate = GateBackend(memory(isLocal: isLocal))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let client = try server.client()
    #expect(try client.write(0, bytes(5, 4096)).isSuccess)
    gate.close(.trim)
    let trim = try client.submit(Cmd.trim, offset: 0, length: UInt32(length))
    #expect(gate.waitUntilHeld(.trim))
    for _ in 0..<20 {
      let read = try client.submit(Cmd.read, offset: 2 << 20, length: 65536)
      #expect(try client.receiveReply().cookie == read)
    }
    #expect(try client.receive(client.submit(Cmd.write, offset: 3 << 20, length: 1, payload: [1])).isSuccess)
    // What overlaps waits for it.
    let behind = try client.submit(Cmd.read, offset: 0, length: 4096)
    #expect(client.staysSilent(milliseconds: 30))
    gate.open()
    let replies = [try client.receiveReply(), try client.receiveReply()]
    #expect(Set(replies.map(\.cookie)) == [trim, behind])
    #expect(replies.first { $0.cookie == behind }?.data == bytes(0, 4096))
  }

  /// The pool for what blocks is bounded, the line in front of it flows when something ends.
  @Test func manyHeldReadsAreAllAnswered() throws {
    let gate = GateBackend(memory(isLocal: false))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let client = try server.client()
    gate.close(.read)
    for index in 0..<200 { try client.submit(Cmd.read, offset: UInt64(index) * 4096, length: 4096) }
    #expect(gate.waitUntilHeld(.read, count: 4))
    gate.open()
    for _ in 0..<200 { #expect(try client.receiveReply().isSuccess) }
  }

  // MARK: Order

  /// Short and long, inline and slow: a READ sees exactly the writes that were sent before it.
  @Test(arguments: [true, false]) func requestsOfOneConnectionOnOneBlockKeepTheirOrder(isLocal: Bool) throws {
    let seed = printedSeed()
    var random = SplitMix(seed: seed)
    let blocks = 128
    let server = try InProcessServer(memory(isLocal: isLocal, sizeBytes: UInt64(blocks * 4096)))
    let client = try server.client()
    var content = [UInt8](repeating: 0, count: blocks)
    var expected: [UInt64: (first: Int, values: [UInt8])] = [:]

    func receive() throws {
      let reply = try client.receiveReply()
      #expect(reply.isSuccess, "seed \(seed)")
      guard let read = expected[reply.cookie] else { return }
      let found = (0..<read.values.count).map { reply.data[$0 * 4096 + 4095] }
      #expect(found == read.values, "seed \(seed)")
    }
    for step in 0..<600 {
      // Few blocks, so that most requests overlap; now and then all of the image, which never fits a worker's buffer.
      let first = Int.random(in: 0..<3, using: &random)
      let isShort = Int.random(in: 0..<12, using: &random) > 0
      let range = isShort ? first..<first + Int.random(in: 1...3, using: &random) : 0..<blocks
      let (offset, length) = (UInt64(range.lowerBound * 4096), UInt32(range.count * 4096))
      switch Int.random(in: 0..<5, using: &random) {
      case 0...1:
        let value = UInt8(step % 255 + 1)
        try client.submit(
          Cmd.write, flags: Bool.random(using: &random) ? CmdFlag.fua : 0, offset: offset, length: length,
          payload: bytes(value, Int(length)))
        for block in range { content[block] = value }
      case 2:
        try client.submit([Cmd.trim, Cmd.writeZeroes].randomElement(using: &random)!, offset: offset, length: length)
        for block in range { content[block] = 0 }
      default:
        let cookie = try client.submit(Cmd.read, offset: offset, length: length)
        expected[cookie] = (range.lowerBound, Array(content[range]))
      }
      while client.repliesOutstanding >= 16 { try receive() }
    }
    while client.repliesOutstanding > 0 { try receive() }
  }

  // MARK: Ends

  enum Goodbye: CaseIterable { case disconnect, halfClose }

  /// Everything that was received is finished and answered, waiters too; then the server closes.
  @Test(arguments: Goodbye.allCases) func goodbyeIsAnsweredInFull(goodbye: Goodbye) throws {
    let gate = GateBackend(memory(isLocal: false))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let client = try server.client()
    gate.close(.write, .sync)
    for index in 0..<6 {
      // Two of a kind on each block: the second waits for the lock of the first.
      try client.submit(
        Cmd.write, flags: index == 5 ? CmdFlag.fua : 0, offset: UInt64(index / 2) * 4096, length: 4096,
        payload: bytes(UInt8(index + 1), 4096))
    }
    try client.submit(Cmd.read, offset: 8192, length: 4096)
    try client.submit(Cmd.flush)
    #expect(gate.waitUntilHeld(.write, count: 3))
    switch goodbye {
    case .disconnect: try client.socket.send(requestBytes(Cmd.disconnect, cookie: 0, offset: 0, length: 0))
    case .halfClose: client.socket.shutdownWrite()
    }
    #expect(client.staysSilent(milliseconds: 60))
    gate.open()
    for _ in 0..<8 { #expect(try client.receiveReply().isSuccess) }
    #expect(try client.socket.receiveUntilEnd().isEmpty)
    let later = try server.client()
    #expect(try later.read(8192, 4096).data == bytes(6, 4096))
    #expect(eventually(seconds: 5) { server.server.connectionCount == 1 })
  }

  /// I6: what had not started is cancelled; what had keeps its lock; who came later goes on.
  @Test func waitersOfADeadConnectionAreCancelled() throws {
    let gate = GateBackend(memory(isLocal: false))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let (holder, dying, later) = (try server.client(), try server.client(), try server.client())
    gate.close(.write)
    try holder.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(1, 4096))
    #expect(gate.waitUntilHeld(.write))
    for _ in 0..<5 { try dying.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(2, 4096)) }
    #expect(eventually(seconds: 5) { server.image.lockCounts.waiting == 5 })
    try dying.socket.send(bytes(0xee, 28))
    #expect(eventually(seconds: 5) { server.image.lockCounts.waiting == 0 })
    #expect(eventually(seconds: 5) { dying.socket.hasEnded() })
    #expect(eventually(seconds: 5) { server.server.connectionCount == 2 })
    try later.submit(Cmd.write, offset: 2048, length: 4096, payload: bytes(3, 4096))
    #expect(eventually(seconds: 5) { server.image.lockCounts.waiting == 1 })
    gate.open()
    #expect(try holder.receiveReply().isSuccess)
    #expect(try later.receiveReply().isSuccess)
    #expect(gate.arrived.filter { $0.kind == .write }.map(\.range) == [0..<4096, 2048..<6144])
    #expect(try later.read(0, 4096).data == bytes(1, 2048) + bytes(3, 2048))
    #expect(eventually(seconds: 5) { server.server.chargedBytes == 0 })
  }

  // MARK: Limits

  @Test func moreConnectionsThanAllowedAreRefused() throws {
    var limits = Limits()
    limits.connectionsMax = 4
    let server = try InProcessServer(memory(isLocal: true), limits: limits)
    let clients = try (0..<4).map { _ in try server.client() }
    for _ in 0..<3 {
      let refused = try server.socket()
      #expect(try refused.receiveUntilEnd().isEmpty)
    }
    for client in clients { #expect(try client.read(0, 512).isSuccess) }
    clients[1].socket.close()
    #expect(eventually(seconds: 5) { server.server.connectionCount == 3 })
    let next = try server.client()
    #expect(try next.read(0, 512).isSuccess)
  }

  /// More requests than may be in flight, all sent before one is answered: back-pressure, no error.
  @Test(arguments: [true, false]) func moreRequestsThanTheLimitAreAllAnswered(isLocal: Bool) throws {
    var limits = Limits()
    limits.requestsInFlightMax = 8
    let gate = GateBackend(memory(isLocal: isLocal))
    let server = try InProcessServer(gate, limits: limits)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let client = try server.client()
    gate.close(.sync, .read)
    var sent: [UInt8] = []
    let count: UInt64 = 500
    for index in 0..<count {
      let isWrite = index % 2 == 0
      client.expect(
        isWrite ? Cmd.write : Cmd.read, flags: isWrite ? CmdFlag.fua : 0, cookie: index + 1,
        offset: index % 64 * 4096, length: 4096)
      sent += requestBytes(
        isWrite ? Cmd.write : Cmd.read, flags: isWrite ? CmdFlag.fua : 0, cookie: index + 1,
        offset: index % 64 * 4096, length: 4096)
      if isWrite { sent += bytes(1, 4096) }
    }
    let all = sent
    Thread { try? client.socket.send(all) }.start()
    #expect(gate.waitUntilHeld(isLocal ? .sync : .read))
    #expect(client.staysSilent(milliseconds: 50) || isLocal)
    gate.open()
    for _ in 0..<count { #expect(try client.receiveReply().isSuccess) }
  }

  /// A full receive buffer of requests does not get past the limit either.
  @Test func requestsInFlightStayWithinTheLimit() throws {
    var limits = Limits()
    limits.requestsInFlightMax = 16
    let gate = GateBackend(memory(isLocal: false))
    let server = try InProcessServer(gate, limits: limits)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let client = try server.client()
    gate.close(.read)
    var sent: [UInt8] = []
    for index in 0..<3000 as Range<UInt64> {
      client.expect(Cmd.read, cookie: index + 1, offset: index % 1000 * 512, length: 512)
      sent += requestBytes(Cmd.read, cookie: index + 1, offset: index % 1000 * 512, length: 512)
    }
    try client.socket.send(sent)
    #expect(gate.waitUntilHeld(.read, count: 4))
    _ = client.staysSilent(milliseconds: 100)
    let counts = server.image.lockCounts
    #expect(counts.held + counts.waiting <= limits.requestsInFlightMax)
    gate.open()
    for _ in 0..<3000 { #expect(try client.receiveReply().isSuccess) }
  }

  // MARK: A full socket

  /// What the socket did not take of a reply goes out before the replies that were made meanwhile: a stream has no other order.
  /// Whether one is made just then is a matter of time, hence the rounds.
  @Test func replyMadeWhileTheSocketIsFullWaitsForTheRest() throws {
    let gate = GateBackend(MemoryBackend(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate)
    // A failed test must not wait for ever at the gate.
    defer { gate.open() }
    let length = Limits.inlineBytesMax
    #expect(try server.client().write(0, bytes(7, length)).isSuccess)
    for milliseconds: UInt32 in [1, 2, 4, 6, 8, 10, 12, 16] {
      let client = try server.client()
      gate.close(.cache)
      let held = try client.submit(Cmd.cache, offset: 0, length: 4096)
      #expect(gate.waitUntilHeld(.cache))
      let before = gate.finished.count { $0.kind == .readCached }
      for _ in 0..<16 { try client.submit(Cmd.read, offset: 0, length: UInt32(length)) }
      #expect(gate.waitUntilFinished(.readCached, count: before + 1))
      usleep(milliseconds * 1000)
      gate.open(.cache)
      // Until nobody waits for room any more.
      usleep(3 * UInt32(Limits.leaseQuietMilliseconds) * 1000)
      for _ in 0..<17 {
        let reply = try client.receiveReply()
        #expect(reply.isSuccess)
        #expect(reply.data.count == (reply.cookie == held ? 0 : length))
        #expect(reply.data.last ?? 7 == 7)
      }
    }
  }
}

extension RawClient {
  /// The reply to `cookie`, which has to be the next.
  func receive(_ cookie: UInt64) throws -> Reply {
    let reply = try receiveReply()
    #expect(reply.cookie == cookie)
    return reply
  }
}
