// Structured replies and metadata contexts as they are negotiated (rows A3.15 to A3.19 of the protocol table).

import DaemonHarness
import NBDClient
import Testing

extension Integration {
  @Suite struct MetaContexts {
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
        try client.select(["nonsense:x", "base:", "base:unheard-of", "base:allocation"], export: "")
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
  }
}
