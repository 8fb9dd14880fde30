// What the specification demands of a server between the first byte and the transmission phase (rows A1 to A3 of the protocol
// table), seen from the wire.

import DaemonHarness
import NBDClient
import Testing

/// A greeted connection that is haggling about options.
private func haggling(
  _ daemon: Daemon, flags: UInt32 = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes
) throws -> RawClient {
  let client = RawClient(try RawSocket(unix: daemon.socket, timeoutSeconds: 15))
  try client.greet(flags: flags)
  return client
}

/// The connection still answers options in step.
private func expectStillHaggling(_ client: RawClient, _ location: SourceLocation = #_sourceLocation) throws {
  let reply = try client.finalReply(Option.info, infoOptionData(""))
  #expect(reply.type == OptionReplyType.ack, sourceLocation: location)
}

/// The server closes without another byte.
private func expectClosed(_ client: RawClient, _ location: SourceLocation = #_sourceLocation) throws {
  #expect(try client.socket.receiveUntilEnd().isEmpty, sourceLocation: location)
}

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

    // MARK: A3, each option

    @Test func exportNameOfNothingEndsTheSession() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        try client.socket.send(optionBytes(Option.exportName, Array("nothing".utf8)))
        try expectClosed(client)
      }
    }

    @Test func theEmptyNameIsTheDefaultExport() throws {
      try withDaemon { daemon, _, _ in
        for name in ["", "disk.img"] {
          let client = try daemon.client(name)
          #expect(client.export.sizeBytes == 64 << 20)
        }
      }
    }

    @Test func abortIsAcknowledgedAndItsDataIgnored() throws {
      try withDaemon { daemon, _, _ in
        for data in [[], filled(5, 100)] {
          let client = try haggling(daemon)
          #expect(try client.finalReply(Option.abort, data).type == OptionReplyType.ack)
          try expectClosed(client)
        }
        // A client that does not wait for the answer harms nobody.
        let rude = try haggling(daemon)
        try rude.socket.send(optionBytes(Option.abort))
        rude.socket.close()
        #expect(try daemon.client().read(0, 512).isSuccess)
      }
    }

    @Test func listNamesExportsThatCanBeEntered() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        let replies = try client.option(Option.list)
        #expect(replies.last?.type == OptionReplyType.ack)
        #expect(replies.count > 1)
        for reply in replies.dropLast() {
          #expect(reply.type == OptionReplyType.server)
          var data = WireReader(reply.data)
          let length = Int(data.number(UInt32.self))
          let name = String(decoding: data.take(length), as: UTF8.self)
          #expect(try daemon.client(name).export.sizeBytes == 64 << 20)
        }
      }
    }

    @Test func listWithDataIsInvalidAndStaysInStep() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        let replies = try client.option(Option.list, filled(1, 77))
        #expect(replies.map(\.type) == [OptionReplyType.invalid])
        try expectStillHaggling(client)
      }
    }

    @Test(arguments: [Option.info, Option.go])
    func malformedInfoAndGoAreInvalid(option: UInt32) throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        let bad: [[UInt8]] = [
          [], [0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0, 0],
          // A name longer than its option, also by nearly 2^32.
          [0, 0, 0, 9, 0x61, 0, 0], [0xff, 0xff, 0xff, 0xff, 0, 0], [0xff, 0xff, 0xff, 0xfa, 0, 0, 0, 0],
          // More or fewer information requests than announced.
          [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0xff, 0xff, 0, 3],
        ]
        for data in bad {
          let replies = try client.option(option, data)
          #expect(replies.map(\.type) == [OptionReplyType.invalid], "\(data)")
        }
        try expectStillHaggling(client)
      }
    }

    @Test func infoExportIsAlwaysSentAndUnknownRequestsAreIgnored() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        for requests in [[], [77, 0xffff], [Info.export, Info.export], [Info.name, Info.blockSize, 99]] as [[UInt16]] {
          let replies = try client.option(Option.info, infoOptionData("", requests))
          #expect(replies.last?.type == OptionReplyType.ack)
          #expect(try client.exportInfo(replies).sizeBytes == 64 << 20)
        }
      }
    }

    @Test func unknownExportIsUnknownWithoutAnyInformation() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        for option in [Option.info, Option.go] {
          let replies = try client.option(option, infoOptionData("nothing", [Info.name, Info.blockSize]))
          #expect(replies.map(\.type) == [OptionReplyType.unknown])
        }
        try expectStillHaggling(client)
      }
    }

    @Test(arguments: [false, true])
    func infoAndGoTellTheSame(structured: Bool) throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        if structured { try client.negotiateStructured() }
        let data = infoOptionData("", [Info.name, Info.description, Info.blockSize])
        let first = try client.option(Option.info, data)
        let second = try client.option(Option.go, data)
        #expect(first == second)
      }
    }

    @Test func aFailedGoLeavesTheHagglingOpen() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        #expect(try client.finalReply(Option.go, infoOptionData("nothing")).type == OptionReplyType.unknown)
        try client.go("")
        #expect(try client.read(0, 512).isSuccess)
      }
    }

    /// The request right behind GO is answered and no padding comes before the answer.
    @Test func goIsFollowedByNothingButReplies() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon, flags: HandshakeFlag.fixedNewstyle)
        client.expect(Cmd.read, cookie: 5, offset: 0, length: 16)
        try client.socket.send(
          optionBytes(Option.go, infoOptionData("")) + requestBytes(Cmd.read, cookie: 5, offset: 0, length: 16))
        #expect(try client.receiveOptionReplies(to: Option.go).last?.type == OptionReplyType.ack)
        #expect(try client.receiveReply().isSuccess)
        try client.disconnect()
      }
    }

    @Test func canonicalNameAndBlockSizesAreToldOnRequest() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        try client.go("")
        #expect(client.export.name != nil)
        #expect(client.export.blockSizes == [1, 4096, 32 << 20])
      }
    }

    @Test func structuredReplyIsNegotiatedOnceAndTakesNoData() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        #expect(try client.finalReply(Option.structuredReply, [1]).type == OptionReplyType.invalid)
        #expect(try client.finalReply(Option.structuredReply).type == OptionReplyType.ack)
        #expect(try client.finalReply(Option.structuredReply).type == OptionReplyType.invalid)
        client.isStructured = true
        try client.go("")
        #expect(try client.read(0, 512).isStructured)
      }
    }

    @Test func setMetaContextNeedsStructuredReplies() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        let data = metaContextData("", ["base:allocation"])
        #expect(try client.finalReply(Option.setMetaContext, data).type == OptionReplyType.invalid)
        try expectStillHaggling(client)
      }
    }

    @Test(arguments: [Option.listMetaContext, Option.setMetaContext])
    func malformedMetaContextOptionsAreInvalid(option: UInt32) throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        try client.negotiateStructured()
        let bad: [[UInt8]] = [
          [], [0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0],
          [0, 0, 0, 9, 0, 0, 0, 0], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
          [0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9, 0x62],
          [0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x62], [0, 0, 0, 0, 0, 0, 0, 0, 1],
          [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0x62],
        ]
        for data in bad {
          let replies = try client.option(option, data)
          #expect(replies.count == 1)
          #expect([OptionReplyType.invalid, OptionReplyType.tooBig].contains(replies[0].type), "\(data)")
        }
        try expectStillHaggling(client)
      }
    }

    @Test func unknownContextsAndNamespacesAreIgnored() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        try client.negotiateStructured()
        try client.select(["nonsense:x", "base:", "base:unheard-of", "no colon", "base:allocation"], export: "")
        #expect(Array(client.contexts.values) == ["base:allocation"])
        try client.select(["nonsense:x", "base:"], export: "")
        #expect(client.contexts.isEmpty)
        let unknown = metaContextData("nothing", ["base:allocation"])
        #expect(try client.finalReply(Option.setMetaContext, unknown).type == OptionReplyType.unknown)
        #expect(try client.finalReply(Option.listMetaContext, unknown).type == OptionReplyType.unknown)
      }
    }

    @Test func listingContextsKnowsTheWildcardAndUsesIdZero() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        try client.negotiateStructured()
        for queries in [[], ["base:"], ["base:allocation"], ["nonsense:", "base:"]] as [[String]] {
          let replies = try client.option(Option.listMetaContext, metaContextData("", queries))
          #expect(replies.map(\.type) == [OptionReplyType.metaContext, OptionReplyType.ack], "\(queries)")
          #expect(replies[0].data == [0, 0, 0, 0] + Array("base:allocation".utf8))
        }
        let none = try client.option(Option.listMetaContext, metaContextData("", ["base:nothing"]))
        #expect(none.map(\.type) == [OptionReplyType.ack])
      }
    }

    @Test func aFailedSetForgetsTheFormerContexts() throws {
      try withDaemon { daemon, _, _ in
        for data in [metaContextData("nothing", ["base:allocation"]), [0, 0, 0], metaContextData("", [])] {
          let client = try haggling(daemon)
          try client.negotiateStructured()
          try client.select(["base:allocation"], export: "")
          _ = try client.finalReply(Option.setMetaContext, data)
          client.contexts = [:]
          try client.go("")
          #expect(try client.call(Cmd.blockStatus, offset: 0, length: 4096).error == NBDErrno.invalid)
          #expect(try client.read(0, 512).isSuccess)
        }
      }
    }

    @Test func contextsOfAnotherExportDoNotCount() throws {
      try withScratch { scratch in
        let first = try scratch.makeImage("a.img", sizeBytes: 1 << 20)
        let second = try scratch.makeImage("b.img", sizeBytes: 2 << 20)
        let daemon = try Daemon.start(in: scratch, ["--export", "a=\(first)", "--export", "b=\(second)"])
        let client = try haggling(daemon)
        try client.negotiateStructured()
        try client.select(["base:allocation"], export: "a")
        try client.go("b")
        #expect(client.export.sizeBytes == 2 << 20)
        client.contexts = [:]
        #expect(try client.call(Cmd.blockStatus, offset: 0, length: 4096).error == NBDErrno.invalid)
        try daemon.stop()
      }
    }

    @Test func withoutTLSStartTLSIsRefusedAndNothingAsksForIt() throws {
      try withDaemon { daemon, _, _ in
        let client = try haggling(daemon)
        let reply = try client.finalReply(Option.startTLS)
        #expect([OptionReplyType.policy, OptionReplyType.unsupported].contains(reply.type))
        try client.go("")
        #expect(try client.read(0, 512).isSuccess)
      }
    }
  }
}
