// What holds for every option: rows A2, and the small options of A3 and A4.

import Testing

@testable import NBDProtocol

struct OptionTests {
  /// A valid body of each option, and structured replies where they are needed.
  static func body(_ option: Option) -> [UInt8] {
    switch option {
    case .exportName: Array("disk".utf8)
    case .info, .go: Client.info("disk")
    case .listMetaContext, .setMetaContext: Client.queries("disk", ["base:allocation"])
    case .abort, .list, .peekExport, .startTLS, .structuredReply, .extendedHeaders: []
    }
  }

  @Test(arguments: Option.allCases.filter { $0 != .exportName })
  func replyEchoesMagicAndOption(option: Option) {
    var client = Conversation.haggling()
    // `Reply.parse` looks at the magic number.
    let replies = client.ask(option, Self.body(option))
    #expect(!replies.isEmpty)
    #expect(replies.allSatisfy { $0.option == option.rawValue })
  }

  @Test(arguments: Option.allCases.filter { $0 != .exportName }, [true, false])
  func everyOptionHasOneFinalReply(option: Option, isValid: Bool) {
    var client = Conversation.haggling()
    if option != .structuredReply { client.ask(.structuredReply) }
    let replies = client.ask(option, isValid ? Self.body(option) : [1, 2, 3])
    #expect(replies.filter(\.isFinal).count == 1)
    #expect(replies.last?.isFinal == true)
  }

  @Test(arguments: [0, 12, 4711, 0xffff_ffff] as [UInt32], [0, 1, 300_000])
  func unknownOptionIsSkippedAndUnsupported(option: UInt32, length: Int) {
    var client = Conversation.haggling()
    let unknown = Client.option(option, Array(repeating: 0x49, count: length))
    // The next message is understood, in the same piece.
    let replies = Reply.parse(client.say(unknown + Client.option(.list)))
    #expect(replies.map(\.type) == [.errorUnsupported, .server, .ack])
    #expect(replies.first?.option == option)
  }

  @Test(arguments: [[0x66, 0x00, 0x67], [0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0xaf]] as [[UInt8]])
  func stringsAreUTF8WithoutNUL(bytes: [UInt8]) {
    let string = Client.bytes(UInt32(bytes.count)) + bytes
    var client = Conversation.haggling()
    client.ask(.structuredReply)
    #expect(client.types(.info, string + [0, 0]) == [.errorInvalid])
    #expect(client.types(.go, string + [0, 0]) == [.errorInvalid])
    #expect(client.types(.setMetaContext, string + [0, 0, 0, 0]) == [.errorInvalid])
    #expect(client.types(.setMetaContext, Client.string("disk") + [0, 0, 0, 1] + string) == [.errorInvalid])
    // It has no error reply.
    client.say(Client.option(.exportName, bytes))
    #expect(client.violation != nil)
  }

  @Test func stringsAreAtMost4096Bytes() {
    let longest = String(repeating: "n", count: 4096)
    let export = ExportDescription(id: ExportID(rawValue: 9), name: longest, sizeBytes: 0, flags: [])
    let exports = Exports(exports: [export])
    var client = Conversation.haggling(exports: exports)
    client.ask(.structuredReply)
    #expect(client.types(.info, Client.info(longest)) == [.info, .ack])
    #expect(client.types(.info, Client.info(longest + "n")) == [.errorInvalid])
    #expect(client.types(.listMetaContext, Client.queries(longest, ["x:" + longest.dropFirst(2)])) == [.ack])
    #expect(client.types(.listMetaContext, Client.queries(longest, ["x:" + longest])) == [.errorInvalid])

    client.say(Client.option(.exportName, Array(longest.utf8)))
    #expect(client.ending == .transmission)
    var tooLong = Conversation.haggling(exports: exports)
    tooLong.say(Client.optionHeader(1, length: 4097))
    #expect(tooLong.ending == .violation(atByte: 4))
  }

  @Test func ownTextsAreCutAtACharacter() {
    var client = Conversation.haggling()
    for length in 100..<110 {
      // Umlauts of two bytes: the cut has to move.
      let name = String(repeating: "x", count: length) + String(repeating: "ä", count: 200)
      let text = client.ask(.info, Client.info(name))[0].data
      #expect(text.count <= 256)
      #expect(text.count >= 255)
      #expect(String(validating: text, as: UTF8.self) != nil)
    }
  }

  @Test func longOptionIsSkippedAndTooBig() {
    let limits = HandshakeLimits()
    for option in [Option.info, .go, .setMetaContext, .listMetaContext] {
      var client = Conversation.haggling(limits: limits)
      client.ask(.structuredReply)
      let long = Array(repeating: UInt8(0x41), count: limits.optionBytesMax + 1)
      #expect(client.types(option, long) == [.errorTooBig])
      #expect(client.needsMax <= limits.optionBytesMax + 16)
      #expect(client.types(.go, Client.info("disk")) == [.info, .ack])
    }
  }

  @Test func longestOptionIsRead() {
    let limits = HandshakeLimits()
    let data = Client.string("disk") + Client.bytes(UInt16(0))
    var client = Conversation.haggling(limits: limits)
    client.say(Client.optionHeader(Option.info.rawValue, length: UInt32(limits.optionBytesMax)))
    #expect(client.needsMax == limits.optionBytesMax + 16)
    let rest = Array(repeating: UInt8(0), count: limits.optionBytesMax - data.count)
    #expect(Reply.parse(client.say(data + rest)).map(\.type) == [.errorInvalid])
  }

  @Test func hugeOptionCloses() {
    for option in [Option.abort.rawValue, Option.info.rawValue, 99] {
      var client = Conversation.haggling()
      #expect(client.say(Client.optionHeader(option, length: (32 << 20) + 1)).isEmpty)
      #expect(client.ending == .violation(atByte: 4))
    }
    var client = Conversation.haggling()
    client.say(Client.optionHeader(99, length: 32 << 20))
    #expect(client.ending == .waits)
  }

  @Test func tooManyOptionsClose() {
    let limits = HandshakeLimits(optionsMax: 5)
    var client = Conversation.haggling(limits: limits)
    for _ in 0..<5 { #expect(client.ask(77).count == 1) }
    #expect(client.ask(.list).isEmpty)
    #expect(client.ending == .closed)
  }

  @Test func repliesAreHandedOutBeforeTheyPileUp() throws {
    let limits = HandshakeLimits(outputBytesBeforeSend: 1000)
    var handshake = Handshake(limits: limits)
    var left = Client.flags(Client.fixed) + (0..<500).flatMap { _ in Client.option(.list) }
    var total: [UInt8] = []
    var turns = 0
    while !left.isEmpty {
      var output: [UInt8] = []
      let progress = unsafe try handshake.receive(
        left.span.bytes, exports: Exports(), isShuttingDown: false, output: &output)
      left.removeFirst(progress.consumed)
      // One reply may exceed it.
      #expect(output.count < 1000 + 200)
      total += output
      turns += 1
    }
    #expect(turns > 10)
    #expect(Reply.parse(total).filter(\.isFinal).count == 500)
  }

  @Test func repeatedOptionsKeepStateSound() throws {
    var client = Conversation.haggling()
    #expect(client.types(.structuredReply) == [.ack])
    #expect(client.types(.structuredReply) == [.errorInvalid])
    let select = Client.queries("disk", ["base:allocation"])
    #expect(client.types(.setMetaContext, select) == [.metaContext, .ack])
    #expect(client.types(.structuredReply) == [.errorInvalid])
    #expect(client.types(.setMetaContext, select) == [.metaContext, .ack])
    #expect(client.types(.structuredReply) == [.errorInvalid])
    client.ask(.go, Client.info("disk"))
    let session = try #require(client.session)
    #expect(session.replies == .structured)
    #expect(session.allocationContextID != nil)
  }

  @Test func everyErrorCarriesText() {
    var client = Conversation.haggling(exports: Exports(defaultExport: nil, listIsAllowed: false))
    var seen: Set<OptionReplyType> = []
    func check(_ replies: [Reply]) {
      for reply in replies where reply.isError {
        #expect(!reply.data.isEmpty)
        #expect(reply.data.count <= 256)
        #expect(!reply.text.contains("\0"))
        if let type = reply.type { seen.insert(type) }
      }
    }
    check(client.ask(77))
    check(client.ask(.startTLS))
    check(client.ask(.peekExport))
    check(client.ask(.extendedHeaders))
    check(client.ask(.list))
    check(client.ask(.list, [1]))
    check(client.ask(.info, [1]))
    check(client.ask(.info, Client.info("nowhere")))
    check(client.ask(.info, Client.info("")))
    check(client.ask(.info, Array(repeating: 0, count: 100_000)))
    check(client.ask(.setMetaContext, Client.queries("disk", [])))
    client.isShuttingDown = true
    check(client.ask(.list))
    #expect(seen == Set(OptionReplyType.allCases.filter { $0.rawValue >> 31 == 1 }))
  }

  @Test(arguments: Option.allCases.filter { $0 != .exportName && $0 != .abort }.map(\.rawValue) + [77])
  func shutdownErrorsEverythingButAbort(option: UInt32) {
    var client = Conversation.haggling()
    client.isShuttingDown = true
    let body = Option(rawValue: option).map(Self.body) ?? []
    #expect(client.ask(option, body).map(\.type) == [.errorShutdown])
    #expect(client.ending == .waits)
    #expect(client.types(.abort) == [.ack])
    #expect(client.ending == .closed)
  }

  @Test func shutdownClosesOnExportName() {
    var client = Conversation.haggling()
    client.isShuttingDown = true
    #expect(client.say(Client.option(.exportName, Array("disk".utf8))).isEmpty)
    #expect(client.ending == .closed)
  }

  @Test func abortIsAcknowledged() {
    var client = Conversation.haggling()
    #expect(client.types(.abort) == [.ack])
    #expect(client.ending == .closed)
  }

  @Test func abortIgnoresItsData() {
    var client = Conversation.haggling()
    #expect(client.types(.abort, Array(repeating: 7, count: 100_000)) == [.ack])
    #expect(client.ending == .closed)
    #expect(client.kept.isEmpty)
  }

  @Test func listTellsNamesAndDescriptions() {
    var client = Conversation.haggling(exports: Exports(exports: [Exports.disk, Exports.other]))
    let replies = client.ask(.list)
    #expect(replies.map(\.type) == [.server, .server, .ack])
    #expect(replies[0].data == Client.string("disk") + Array("a disk".utf8))
    #expect(replies[1].data == Client.string("other"))
    #expect(replies[2].data.isEmpty)
  }

  @Test func listOfNothingIsAcknowledged() {
    var client = Conversation.haggling(exports: Exports(exports: []))
    #expect(client.types(.list) == [.ack])
  }

  @Test func listWithDataIsInvalidAndDrained() {
    var client = Conversation.haggling()
    let replies = Reply.parse(client.say(Client.option(.list, [1, 2, 3]) + Client.option(.list)))
    #expect(replies.map(\.type) == [.errorInvalid, .server, .ack])
  }

  @Test func listIsRefusedByPolicy() {
    var client = Conversation.haggling(exports: Exports(listIsAllowed: false))
    #expect(client.types(.list) == [.errorPolicy])
    #expect(client.types(.info, Client.info("disk")) == [.info, .ack])
  }

  @Test func structuredReplyWithDataIsInvalid() {
    var client = Conversation.haggling()
    #expect(client.types(.structuredReply, [0]) == [.errorInvalid])
    client.ask(.go, Client.info("disk"))
    #expect(client.session?.replies == .simple)
  }

  @Test func secondStructuredReplyIsInvalid() {
    var client = Conversation.haggling()
    #expect(client.types(.structuredReply) == [.ack])
    #expect(client.types(.structuredReply) == [.errorInvalid])
    client.ask(.go, Client.info("disk"))
    #expect(client.session?.replies == .structured)
  }

  @Test(arguments: [[], [1, 2, 3]] as [[UInt8]])
  func startTLSIsUnsupported(data: [UInt8]) {
    var client = Conversation.haggling()
    #expect(client.types(.startTLS, data) == [.errorUnsupported])
    #expect(client.ending == .waits)
  }

  @Test func tlsIsNeverDemanded() {
    let tlsRequired: UInt32 = 0x8000_0005
    #expect(!OptionReplyType.allCases.map(\.rawValue).contains(tlsRequired))
  }

  @Test func extendedHeadersAreUnsupported() {
    var client = Conversation.haggling()
    #expect(client.types(.extendedHeaders) == [.errorUnsupported])
    #expect(client.types(.structuredReply) == [.ack])
  }
}
