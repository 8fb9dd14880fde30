// Hostile and broken clients: mutated bytes from printed seeds, announced payloads that never come, replies nobody reads.
// The server stays alive, forgets them, and others do not notice.

import DaemonHarness
import Glibc
import NBDClient
import Synchronization
import Testing

/// Bytes with some of them changed, in ways that hit lengths and magics as well as data.
private func mutated(_ messages: [[UInt8]], _ random: inout Random) -> [UInt8] {
  var messages = messages
  if random.next() % 4 == 0 { messages.shuffle(using: &random) }
  if random.next() % 8 == 0 { messages.append(messages.randomElement(using: &random)!) }
  var bytes: [UInt8] = []
  for message in messages { bytes += message }
  for _ in 0..<(1 + random.next() % 4) {
    guard !bytes.isEmpty else { break }
    let at = Int(random.next() % UInt64(bytes.count))
    switch random.next() % 7 {
    case 0: bytes[at] ^= 1 << UInt8(random.next() % 8)
    case 1: bytes[at] = UInt8(truncatingIfNeeded: random.next())
    case 2: bytes.removeSubrange(at...)
    case 3: bytes.insert(contentsOf: random.bytes(Int(random.next() % 40)), at: at)
    case 4: bytes.removeSubrange(at..<min(bytes.count, at + Int(random.next() % 20)))
    case 5:
      let extremes: [[UInt8]] = [[0xff, 0xff, 0xff, 0xff], [0, 0, 0, 0], [0x7f, 0xff, 0xff, 0xff], [0x80, 0, 0, 0]]
      let extreme = extremes.randomElement(using: &random)!
      for index in 0..<4 where at + index < bytes.count { bytes[at + index] = extreme[index] }
    default: for index in at..<min(bytes.count, at + 8) { bytes[index] = 0xff }
    }
  }
  return bytes
}

private func flagBytes() -> [UInt8] { [0, 0, 0, 3] }

/// A whole dialogue, message by message.
private func handshake(_ random: inout Random) -> [[UInt8]] {
  [
    flagBytes(), optionBytes(Option.list), optionBytes(Option.structuredReply),
    optionBytes(Option.listMetaContext, metaContextData("", [])),
    optionBytes(Option.setMetaContext, metaContextData("", ["base:allocation", "x:y"])),
    optionBytes(Option.info, infoOptionData("disk.img", [Info.name, Info.blockSize])),
    optionBytes(UInt32(random.next() % 20), random.bytes(Int(random.next() % 64))),
    optionBytes(Option.go, infoOptionData("", [Info.blockSize])),
    requestBytes(Cmd.read, cookie: 1, offset: 0, length: 4096),
    requestBytes(Cmd.disconnect, cookie: 2, offset: 0, length: 0),
  ]
}

private func requests(_ random: inout Random) -> [[UInt8]] {
  (0..<12).map { index in
    let type = UInt16(random.next() % 9)
    let length = type == Cmd.disconnect || type == Cmd.flush ? 0 : UInt32(random.next() % 8000)
    let flags: UInt16 = random.next() % 3 == 0 ? 1 << UInt16(random.next() % 5) : 0
    let header = requestBytes(
      type, flags: flags, cookie: UInt64(index), offset: random.next() % (64 << 20), length: length)
    return type == Cmd.write ? header + random.bytes(Int(length)) : header
  }
}

/// Sends `bytes` on a fresh connection and reads until the server closes.
private func abuse(_ socket: String, _ bytes: [UInt8]) throws {
  let connection = try RawSocket(unix: socket, timeoutSeconds: 15)
  do { try connection.send(bytes) } catch let error as ClientError where error.isEnd {}
  connection.shutdownWrite()
  _ = try connection.receiveUntilEnd()
}

/// Runs `count` abusive connections on two threads while a good client works, then compares the server with itself before.
private func withstand(seed: UInt64, count: Int, _ make: @escaping @Sendable (inout Random) -> [UInt8]) throws {
  print("bad input: seed \(seed), \(count) connections")
  try withDaemon { daemon, _, _ in
    let good = try daemon.client()
    let marker = filled(0x99, 65536)
    // Where no abuser writes: they may change anything on the first export, so the good client has its own check by reply.
    for index in 0..<64 as Range<UInt64> { _ = try good.write(index << 20, marker) }
    _ = try good.read(0, 32 << 20)
    let descriptors = daemon.descriptorCount
    let resident = daemon.residentBytes
    let socket = daemon.socket
    let isOver = Atomic<Int>(0)
    let served = Atomic<Int>(0)
    let abuseAll: @Sendable (Int) throws -> Void = { thread in
      if thread == 2 {
        while isOver.load(ordering: .relaxed) < 2 {
          guard try good.read(UInt64(served.load(ordering: .relaxed)) % 1024 << 16, 4096).isSuccess else {
            throw HarnessError("the good client got an error")
          }
          served.add(1, ordering: .relaxed)
          usleep(500)
        }
        return
      }
      defer { isOver.add(1, ordering: .relaxed) }
      for index in stride(from: thread, to: count, by: 2) {
        var random = Random(seed: seed &+ UInt64(index) &* 0x9e37_79b9)
        do { try abuse(socket, make(&random)) } catch {
          throw HarnessError("seed \(seed), connection \(index): \(error)")
        }
      }
    }
    do { try onThreads(3, abuseAll) } catch {
      usleep(100_000)
      let state = daemon.child.status()?.description ?? "still running"
      throw HarnessError("\(error); the daemon: \(state)\n\(daemon.log.suffix(2000))")
    }
    #expect(daemon.child.status() == nil, "the server is alive")
    #expect(served.load(ordering: .relaxed) > 100)
    #expect(try good.write(0, marker).isSuccess)
    let isAsBefore = eventually(seconds: 10) {
      daemon.descriptorCount == descriptors
        && (Daemon.isSanitized || daemon.residentBytes <= resident + (16 << 20))
    }
    #expect(
      isAsBefore,
      """
      descriptors \(descriptors) then \(daemon.descriptorCount), \
      resident \(resident >> 10) KiB then \(daemon.residentBytes >> 10)
      """)
  }
}

private func seedOfTheDay() -> UInt64 {
  if let text = getenv("HOLDFAST_SEED"), let seed = UInt64(String(cString: text)) { return seed }
  return 20_261_121
}

extension Integration {
  @Suite struct BadInput {
    @Test func tenThousandMutatedHandshakesAreWithstood() throws {
      try withstand(seed: seedOfTheDay(), count: 10_000) { random in mutated(handshake(&random), &random) }
    }

    @Test func tenThousandMutatedRequestStreamsAreWithstood() throws {
      try withstand(seed: seedOfTheDay() + 1, count: 10_000) { random in
        flagBytes() + optionBytes(Option.structuredReply)
          + optionBytes(Option.setMetaContext, metaContextData("", ["base:allocation"]))
          + optionBytes(Option.go, infoOptionData("")) + mutated(requests(&random), &random)
      }
    }

    /// A connection that dies while its requests wait for each other's locks: the waiting ones are cancelled, once.
    @Test func waitersOfADeadConnectionAreForgotten() throws {
      try withDaemon { daemon, _, _ in
        let good = try daemon.client()
        for round in 0..<100 as Range<UInt64> {
          let client = try daemon.client()
          var bytes: [UInt8] = []
          for index in 0..<20 as Range<UInt64> {
            let length: UInt32 = 1 << 20
            bytes += requestBytes(index % 2 == 0 ? Cmd.writeZeroes : Cmd.read, cookie: index, offset: 0, length: length)
          }
          try client.socket.send(bytes + requestBytes(Cmd.read, cookie: 99, offset: 0, length: 1, magic: 0xbad_cafe))
          _ = try client.socket.receiveUntilEnd()
          #expect(try good.write(round * 4096, filled(1, 4096)).isSuccess)
        }
        #expect(daemon.child.status() == nil)
      }
    }

    @Test func aClientThatNeverReadsCostsAtMost96MiB() throws {
      try withDaemon { daemon, _, _ in
        let good = try daemon.client()
        for index in 0..<64 as Range<UInt64> { _ = try good.write(index << 20, filled(1, 1 << 20)) }
        let before = daemon.residentBytes
        let deaf = try daemon.client()
        var bytes: [UInt8] = []
        for index in 0..<10_000 as Range<UInt64> {
          bytes += requestBytes(Cmd.read, cookie: index, offset: (index % 64) << 20, length: 1 << 20)
        }
        var sent = 0
        var highest = before
        let deadline = monotonicSeconds() + 4
        while monotonicSeconds() < deadline {
          if sent < bytes.count { sent += try deaf.socket.sendWithoutWaiting(Array(bytes[sent...])) }
          try expectSame(good.read(5 << 20, 65536).data, filled(1, 65536))
          highest = max(highest, daemon.residentBytes)
          usleep(2000)
        }
        #expect(highest <= before + (96 << 20), "grew by \((highest - before) >> 20) MiB")
        withExtendedLifetime(deaf) {}
      }
    }

    @Test func announcedPayloadsThatNeverComeCostAtMost16MiB() throws {
      try withDaemon { daemon, _, _ in
        let good = try daemon.client()
        _ = try good.write(0, filled(1, 1 << 20))
        let before = daemon.residentBytes
        let promises = try (0..<60).map { _ in
          let client = try daemon.client()
          try client.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: 32 << 20) + [1])
          return client
        }
        usleep(500_000)
        #expect(daemon.residentBytes <= before + (16 << 20), "grew by \((daemon.residentBytes - before) >> 20) MiB")
        #expect(try good.write(0, filled(2, 8 << 20)).isSuccess)
        try expectSame(good.read(0, 8 << 20).data, filled(2, 8 << 20))
        withExtendedLifetime(promises) {}
      }
    }

    /// Clients that vanish with replies on their way must not take the server with them (SIGPIPE, EPIPE, ECONNRESET).
    @Test func clientsThatVanishAreForgotten() throws {
      try withDaemon(tcp: true) { daemon, _, _ in
        let port = try daemon.port()
        let good = try daemon.client()
        #expect(try good.write(0, filled(1, 16 << 20)).isSuccess)
        let descriptors = daemon.descriptorCount
        for round in 0..<200 {
          let client = RawClient(try round % 2 == 0 ? RawSocket(unix: daemon.socket) : RawSocket(loopback: port))
          try client.enter()
          for index in 0..<16 as Range<UInt64> {
            try client.submit(Cmd.read, offset: index << 20, length: 1 << 20)
          }
          if round % 3 == 0 { client.socket.reset() } else { client.socket.close() }
        }
        let areClosed = eventually(seconds: 10) { daemon.descriptorCount == descriptors }
        #expect(areClosed, "descriptors: \(descriptors) before, \(daemon.descriptorCount) now\n\(daemon.descriptors)")
        #expect(try good.read(0, 4096).isSuccess)
      }
    }
  }
}
