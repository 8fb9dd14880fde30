// What each option of the handshake must be answered with (rows A3 of the protocol table), seen from the wire.

import DaemonHarness
import NBDClient
import Testing

extension Integration {
  @Suite struct Options {
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
