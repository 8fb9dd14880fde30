// What the specification demands of a server between the first byte and the transmission phase (rows A1 and A2 of the protocol
// table), seen from the wire.

import DaemonHarness
import NBDClient
import Testing

extension Integration {
  @Suite struct Handshaking {
    // MARK: A1, first bytes

    @Test func greetingOffersFixedNewstyleAndNoZeroes() throws {
      try withDaemon(tcp: true) { daemon, _, _ in
        let unix = try haggling(daemon)
        #expect(unix.greetingFlags == 3)
        let tcp = RawClient(try RawSocket(loopback: try daemon.port()))
        try tcp.enter()
        #expect(tcp.greetingFlags == 3)
        #expect(try tcp.read(0, 512).isSuccess)
      }
    }

    @Test(arguments: [4, 0x8000_0003, 0xffff_ffff] as [UInt32])
    func unknownClientFlagClosesTheConnection(flags: UInt32) throws {
      try withDaemon { daemon, _, _ in try expectClosed(try haggling(daemon, flags: flags)) }
    }

    @Test(arguments: [false, true])
    func exportNameIsPaddedUnlessThePaddingWasDeclined(declined: Bool) throws {
      try withDaemon { daemon, _, _ in
        let flags = HandshakeFlag.fixedNewstyle | (declined ? HandshakeFlag.noZeroes : 0)
        let client = try haggling(daemon, flags: flags)
        try client.enterByExportName("")
        #expect(client.export.sizeBytes == 64 << 20)
        #expect(try client.read(0, 4096).isSuccess)
        // The choice of one connection must not leak into another.
        let other = try haggling(daemon, flags: HandshakeFlag.fixedNewstyle | (declined ? 0 : HandshakeFlag.noZeroes))
        try other.enterByExportName("")
        #expect(try other.read(0, 4096).isSuccess)
      }
    }

    @Test func aClientThatKnowsOnlyExportNameIsServed() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon, flags: 0)
        try client.enterByExportName("")
        #expect(try client.write(0, filled(1, 512)).isSuccess)
        try expectSame(client.read(0, 512).data, filled(1, 512))
      }
    }

    @Test func badOptionMagicClosesTheConnection() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        var bytes = optionBytes(Option.list)
        bytes[3] ^= 1
        try client.socket.send(bytes)
        try expectClosed(client)
      }
    }

    // MARK: A2, options in general

    @Test(arguments: [0, 4, 12, 999, 0x8000_0000, 0xffff_ffff] as [UInt32])
    func unknownOptionIsUnsupportedAndSkippedByItsLength(option: UInt32) throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        for length in [0, 1, 4096] {
          #expect(try client.finalReply(option, filled(0x49, length)).type == OptionReplyType.unsupported)
        }
        try expectStillHaggling(client)
      }
    }

    @Test func messagesMayArriveInAnyPieces() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        let bytes =
          optionBytes(Option.list) + optionBytes(99, filled(7, 33)) + optionBytes(Option.go, infoOptionData(""))
        for byte in bytes { try client.socket.send([byte]) }
        #expect(try client.receiveOptionReplies(to: Option.list).last?.type == OptionReplyType.ack)
        #expect(try client.receiveOptionReplies(to: 99).last?.type == OptionReplyType.unsupported)
        #expect(try client.receiveOptionReplies(to: Option.go).last?.type == OptionReplyType.ack)
      }
    }

    @Test func badNamesAreRefusedAndTheConnectionLives() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        func info(_ name: [UInt8]) -> [UInt8] {
          var bytes: [UInt8] = []
          bytes.append(bigEndian: UInt32(name.count))
          return bytes + name + [0, 0]
        }
        for name in [[0x61, 0, 0x62], [0xff, 0xfe], [0xc3], filled(0x61, 4097), filled(0x61, 300)] as [[UInt8]] {
          #expect(try client.finalReply(Option.info, info(name)).isError)
          try expectStillHaggling(client)
        }
      }
    }

    @Test func errorsCarryAText() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        #expect(try !client.finalReply(99).text.isEmpty)
        #expect(try !client.finalReply(Option.info, infoOptionData("nothing")).text.isEmpty)
        #expect(try !client.finalReply(Option.info, [1]).text.isEmpty)
        #expect(try !client.finalReply(Option.startTLS).text.isEmpty)
      }
    }

    @Test(arguments: [100_000, 8 << 20, 0x7fff_ffff, 0xffff_ffff] as [UInt32])
    func anAnnouncedGiantOptionCostsNothing(length: UInt32) throws {
      try withDaemon { daemon, _, _ in
        let before = daemon.residentBytes
        let clients = try (0..<20).map { _ in
          let client = try haggling(daemon)
          try client.socket.send(optionBytes(Option.go, filled(0, 64), announced: length))
          return client
        }
        let other = try daemon.client()
        #expect(try other.read(0, 4096).isSuccess)
        #expect(daemon.residentBytes < before + (16 << 20))
        // It may be skipped or be the end; what it may not be is obeyed.
        for client in clients { client.socket.close() }
        #expect(try other.read(0, 4096).isSuccess)
      }
    }

    @Test func anEndlessSeriesOfOptionsIsCutOff() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        var answered = 0
        var wasCutOff = false
        do {
          while answered < 100_000 {
            _ = try client.finalReply(99)
            answered += 1
          }
        } catch let error as ClientError where error.isEnd { wasCutOff = true }
        #expect(wasCutOff)
        #expect(answered >= 16, "a client with a few options is not an attacker")
        #expect(try daemon.client().read(0, 4096).isSuccess)
      }
    }
  }
}
