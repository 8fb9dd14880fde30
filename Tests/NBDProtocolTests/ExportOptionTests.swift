// EXPORT_NAME, INFO and GO: rows A3.1, A3.2, A3.6 to A3.14, A5.2.

import Testing

@testable import NBDProtocol

struct ExportOptionTests {
  static let blockSize = InfoType.blockSize.rawValue

  @Test func exportNameTellsSizeAndFlags() throws {
    var client = Conversation.haggling()
    var scanner = Scanner(client.say(Client.option(.exportName, Array("disk".utf8))))
    #expect(scanner.number(UInt64.self) == 1 << 30)
    let flags = TransmissionFlags(rawValue: scanner.number())
    #expect(flags == Exports.writable.union(.hasFlags))
    #expect(scanner.isAtEnd)
    let session = try #require(client.session)
    #expect(session.flags == flags)
    #expect(session.export == Exports.disk)
    #expect(!session.clientKnowsBlockSizes)
  }

  @Test func unknownExportNameCloses() {
    var client = Conversation.haggling()
    #expect(client.say(Client.option(.exportName, Array("nowhere".utf8))).isEmpty)
    #expect(client.ending == .closed)
  }

  @Test func emptyNameIsTheDefaultExport() {
    for option in [Option.exportName, .go] {
      var client = Conversation.haggling()
      client.say(Client.option(option, option == .go ? Client.info("") : []))
      #expect(client.session?.export.id == Exports.disk.id)
    }
    var none = Conversation.haggling(exports: Exports(defaultExport: nil))
    #expect(none.types(.info, Client.info("")) == [.errorUnknown])
    none.say(Client.option(.exportName))
    #expect(none.ending == .closed)
  }

  @Test(arguments: [Option.info, .go])
  func nameHasToFitTheOption(option: Option) {
    var client = Conversation.haggling()
    let bodies: [[UInt8]] = [
      [], [0, 0, 0], Client.bytes(UInt32(1)), Client.bytes(UInt32.max) + [0, 0],
      Client.bytes(UInt32(5)) + [65, 65, 65, 65],
      // No room for the number of requests behind it.
      Client.string("disk"), Client.string("disk") + [0],
    ]
    for body in bodies {
      #expect(client.types(option, body) == [.errorInvalid])
      #expect(client.ending == .waits)
    }
  }

  @Test(arguments: [Option.info, .go])
  func requestCountHasToFitTheOption(option: Option) {
    var client = Conversation.haggling()
    let name = Client.string("disk")
    for body in [
      name + [0, 1], name + [0, 1, 0], name + [0, 2, 0, 0], name + [0xff, 0xff, 0, 0], name + [0, 0, 0, 0],
    ] {
      #expect(client.types(option, body) == [.errorInvalid])
      #expect(client.ending == .waits)
    }
  }

  @Test func unknownInformationRequestsAreIgnored() {
    var client = Conversation.haggling()
    #expect(client.types(.info, Client.info("disk", [4, 77, 0xffff])) == [.info, .ack])
  }

  @Test func exportInformationAlwaysComesBeforeTheACK() {
    var client = Conversation.haggling()
    for requests in [[], [0], [1, 2, 3], [3, 3]] as [[UInt16]] {
      let replies = client.ask(.info, Client.info("disk", requests))
      let exports = replies.filter { $0.type == .info && $0.data.prefix(2) == [0, 0] }
      #expect(exports.count == 1)
      #expect(exports.first?.data.count == 12)
      #expect(exports.first?.data.prefix(10) == [0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0])
      #expect(replies.last?.type == .ack)
    }
  }

  @Test func unknownExportIsUnknownWithoutInformation() {
    var client = Conversation.haggling()
    #expect(client.types(.info, Client.info("nowhere", [0, 1, 2, 3])) == [.errorUnknown])
    #expect(client.types(.go, Client.info("nowhere", [0, 1, 2, 3])) == [.errorUnknown])
  }

  @Test(arguments: [true, false], [[], [0], [3], [1, 2, 3, 9]] as [[UInt16]])
  func infoThenGoTellsTheSame(isStructured: Bool, requests: [UInt16]) {
    var client = Conversation.haggling()
    if isStructured { client.ask(.structuredReply) }
    let info = client.ask(.info, Client.info("disk", requests))
    let go = client.ask(.go, Client.info("disk", requests))
    #expect(info.map(\.data) == go.map(\.data))
    #expect(info.map(\.type) == go.map(\.type))
    #expect(client.ending == .transmission)
  }

  @Test func failedGoAllowsAnother() {
    var client = Conversation.haggling()
    #expect(client.types(.go, Client.info("nowhere")) == [.errorUnknown])
    #expect(client.types(.go, [1]) == [.errorInvalid])
    #expect(client.types(.go, Client.info("disk")) == [.info, .ack])
    #expect(client.ending == .transmission)
  }

  @Test(arguments: [Client.fixed, Client.fixed | Client.noZeroes])
  func goIsNotPadded(flags: UInt32) {
    var client = Conversation.haggling(flags: flags)
    let replies = Reply.parse(client.say(Client.option(.go, Client.info("disk"))))
    #expect(replies.last == Reply(option: 7, rawType: 1, data: []))
  }

  @Test func requestsBehindGoAreLeftForTransmission() {
    var client = Conversation.haggling()
    let request = Client.request(type: 0, length: 512)
    client.say(Client.option(.go, Client.info("disk")) + request)
    #expect(client.ending == .transmission)
    #expect(client.kept == request)
  }

  @Test func nameAndDescriptionAreToldOnRequest() {
    var client = Conversation.haggling(exports: Exports(exports: [Exports.disk, Exports.other]))
    // By the name of the default export: the canonical one comes back.
    let replies = client.ask(.info, Client.info("", [1, 2]))
    #expect(replies.map(\.type) == [.info, .info, .info, .ack])
    #expect(replies[1].data == [0, 1] + Array("disk".utf8))
    #expect(replies[2].data == [0, 2] + Array("a disk".utf8))
    // There is no description to tell.
    #expect(client.types(.info, Client.info("other", [2])) == [.info, .ack])
  }

  @Test func blockSizesAreToldOnRequest() {
    var client = Conversation.haggling()
    let replies = client.ask(.info, Client.info("disk", [Self.blockSize]))
    #expect(replies.map(\.type) == [.info, .info, .ack])
    let sizes = Client.bytes(UInt32(1)) + Client.bytes(UInt32(4096)) + Client.bytes(UInt32(32 << 20))
    #expect(replies[1].data == [0, 3] + sizes)
    #expect(client.types(.info, Client.info("disk")) == [.info, .ack])
  }

  @Test(arguments: 0..<7)
  func impossibleBlockSizesAreNeverTold(wrong: Int) async {
    // A description that breaks the rules is a bug of the server: it stops rather than tell it.
    await #expect(processExitsWith: .failure) { [wrong] in
      let rows: [(size: UInt64, min: UInt32, preferred: UInt32, max: UInt32)] = [
        (4096, 3, 4096, 1 << 20), (0, 1 << 17, 1 << 17, 1 << 20), (4096, 1, 256, 1 << 20), (4096, 4096, 512, 1 << 20),
        (4096, 1, 4096, 512), (4096, 1, 4096, 65 << 20), (1000, 512, 4096, 1 << 20),
      ]
      let row = rows[wrong]
      _ = ExportDescription(
        id: ExportID(rawValue: 1), name: "x", sizeBytes: row.size, flags: [], blockBytesMin: row.min,
        blockBytesPreferred: row.preferred, payloadBytesMax: row.max)
    }
  }

  @Test func strictBlockSizesAreNotRequiredToBeKnown() {
    let strict = ExportDescription(
      id: ExportID(rawValue: 3), name: "strict", sizeBytes: 1 << 20, flags: [], blockBytesMin: 512)
    var client = Conversation.haggling(exports: Exports(exports: [strict]))
    // Told unasked, since they are not the default; the option succeeds all the same.
    let replies = client.ask(.go, Client.info("strict"))
    #expect(replies.map(\.type) == [.info, .info, .ack])
    #expect(replies[1].data.prefix(6) == [0, 3, 0, 0, 2, 0])
    #expect(client.session?.clientKnowsBlockSizes == false)
  }

  @Test func onlyGoWithTheRequestBindsTheClientToBlockSizes() {
    var asked = Conversation.haggling()
    asked.ask(.go, Client.info("disk", [Self.blockSize]))
    #expect(asked.session?.clientKnowsBlockSizes == true)
    var informed = Conversation.haggling()
    informed.ask(.info, Client.info("disk", [Self.blockSize]))
    informed.ask(.go, Client.info("disk"))
    #expect(informed.session?.clientKnowsBlockSizes == false)
  }

  @Test(arguments: [true, false])
  func onlyWhatIsSupportedIsAdvertised(isStructured: Bool) {
    let bold = ExportDescription(
      id: ExportID(rawValue: 4), name: "bold", sizeBytes: 0, flags: [.sendDF, .sendResize, .sendFastZero])
    var client = Conversation.haggling(exports: Exports(exports: [bold]))
    if isStructured { client.ask(.structuredReply) }
    client.ask(.go, Client.info("bold"))
    // FAST_ZERO is nothing without WRITE_ZEROES.
    #expect(client.session?.flags == (isStructured ? [.hasFlags, .sendDF] : .hasFlags))
  }

  @Test func rotationalIsPassedOn() {
    let slow = ExportDescription(id: ExportID(rawValue: 5), name: "slow", sizeBytes: 0, flags: .rotational)
    var client = Conversation.haggling(exports: Exports(exports: [slow]))
    let replies = client.ask(.go, Client.info("slow"))
    #expect(replies[0].data.suffix(2) == [0, 0b1_0001])
  }
}
