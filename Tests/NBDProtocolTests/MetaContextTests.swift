// LIST_META_CONTEXT and SET_META_CONTEXT: rows A3.16 to A3.19.

import Testing

@testable import NBDProtocol

struct MetaContextTests {
  static let allocation = Array("base:allocation".utf8)

  static func structured(_ exports: Exports = Exports(exports: [Exports.disk, Exports.other])) -> Conversation {
    var client = Conversation.haggling(exports: exports)
    client.ask(.structuredReply)
    return client
  }

  /// What is selected if the client now chooses `name`.
  static func contextID(_ client: Conversation, _ name: String, _ option: Option = .go) -> UInt32? {
    var client = client
    client.say(Client.option(option, option == .go ? Client.info(name) : Array(name.utf8)))
    #expect(client.ending == .transmission)
    return client.session?.allocationContextID
  }

  @Test(arguments: [Option.listMetaContext, .setMetaContext])
  func contextsNeedStructuredReplies(option: Option) {
    var client = Conversation.haggling()
    #expect(client.types(option, Client.queries("disk", ["base:allocation"])) == [.errorInvalid])
  }

  @Test(arguments: [Option.listMetaContext, .setMetaContext])
  func badLengthsAreInvalid(option: Option) {
    var client = Self.structured()
    let name = Client.string("disk")
    let bodies: [[UInt8]] = [
      [], [0, 0], Client.bytes(UInt32.max), name, name + [0, 0, 0], name + [0, 0, 0, 1],
      name + [0, 0, 0, 1, 0, 0, 0, 9],
      name + Client.bytes(UInt32.max), name + Client.bytes(UInt32.max) + Client.string("base:"),
      name + [0, 0, 0, 1] + Client.bytes(UInt32.max) + Self.allocation,
      // Left over.
      name + [0, 0, 0, 0, 7], Client.queries("disk", ["base:allocation"]) + [0],
    ]
    for body in bodies { #expect(client.types(option, body) == [.errorInvalid]) }
  }

  @Test(arguments: [Option.listMetaContext, .setMetaContext])
  func queryWithoutNamespaceIsInvalid(option: Option) {
    var client = Self.structured()
    for query in ["", "base", ":", ":allocation"] {
      #expect(client.types(option, Client.queries("disk", [query])) == [.errorInvalid])
    }
  }

  @Test(arguments: [Option.listMetaContext, .setMetaContext])
  func unknownNamespaceAndLeafAreIgnored(option: Option) {
    var client = Self.structured()
    let unknown = ["qemu:dirty-bitmap:b", "x-thing:", "BASE:allocation", "base:other", "base:allocation:more"]
    #expect(client.types(option, Client.queries("disk", unknown)) == [.ack])
    #expect(client.types(option, Client.queries("disk", unknown + ["base:allocation"])) == [.metaContext, .ack])
  }

  @Test(arguments: [Option.listMetaContext, .setMetaContext])
  func unknownExportHasNoContexts(option: Option) {
    var client = Self.structured()
    #expect(client.types(option, Client.queries("nowhere", ["base:allocation"])) == [.errorUnknown])
  }

  @Test(arguments: [Option.listMetaContext, .setMetaContext])
  func tooManyQueriesAreTooBig(option: Option) {
    var client = Self.structured()
    #expect(client.types(option, Client.queries("disk", Array(repeating: "x:", count: 257))) == [.errorTooBig])
    #expect(client.types(option, Client.queries("disk", Array(repeating: "x:", count: 256))) == [.ack])
  }

  @Test func setSelectsAllocationOnce() {
    var client = Self.structured()
    let replies = client.ask(.setMetaContext, Client.queries("disk", ["base:allocation", "base:allocation"]))
    #expect(replies.map(\.type) == [.metaContext, .ack])
    #expect(replies[0].data.dropFirst(4) == Self.allocation[...])
    let id = Self.contextID(client, "disk")
    #expect(id != nil)
    #expect(Array(replies[0].data.prefix(4)) == id.map { Client.bytes($0) })
  }

  @Test(
    arguments: [
      Client.queries("disk", []), Client.queries("disk", ["base:"]), Client.queries("disk", ["x:y"]),
      Client.queries("disk", ["base"]), Client.queries("nowhere", ["base:allocation"]), [],
      Client.queries("other", ["base:allocation"]), Array(repeating: 0, count: 100_000),
    ])
  func setReplacesTheOldSetEvenWhenItFails(second: [UInt8]) {
    var client = Self.structured()
    client.ask(.setMetaContext, Client.queries("disk", ["base:allocation"]))
    #expect(Self.contextID(client, "disk") != nil)
    client.ask(.setMetaContext, second)
    #expect(Self.contextID(client, "disk") == nil)
  }

  @Test func listLeavesTheSelectionAlone() {
    var client = Self.structured()
    client.ask(.setMetaContext, Client.queries("disk", ["base:allocation"]))
    client.ask(.listMetaContext, Client.queries("other", []))
    client.ask(.listMetaContext, [])
    #expect(Self.contextID(client, "disk") != nil)
  }

  @Test func zeroQueriesSelectNone() {
    var client = Self.structured()
    #expect(client.types(.setMetaContext, Client.queries("disk", [])) == [.ack])
    #expect(Self.contextID(client, "disk") == nil)
  }

  @Test func listWithZeroQueriesTellsAll() {
    var client = Self.structured()
    let replies = client.ask(.listMetaContext, Client.queries("disk", []))
    #expect(replies.map(\.type) == [.metaContext, .ack])
    // The identifier is reserved here.
    #expect(replies[0].data == [0, 0, 0, 0] + Self.allocation)
  }

  @Test func baseIsAWildcardForListAndIgnoredBySet() {
    var client = Self.structured()
    #expect(client.types(.listMetaContext, Client.queries("disk", ["base:"])) == [.metaContext, .ack])
    #expect(client.types(.setMetaContext, Client.queries("disk", ["base:"])) == [.ack])
    #expect(Self.contextID(client, "disk") == nil)
  }

  @Test func exportWithoutBlockStatusHasNoContext() {
    let plain = ExportDescription(
      id: ExportID(rawValue: 6), name: "plain", sizeBytes: 0, flags: [], offersBlockStatus: false)
    var client = Self.structured(Exports(exports: [plain]))
    #expect(client.types(.listMetaContext, Client.queries("plain", [])) == [.ack])
    #expect(client.types(.setMetaContext, Client.queries("plain", ["base:allocation"])) == [.ack])
    #expect(Self.contextID(client, "plain") == nil)
  }

  @Test(arguments: [Option.go, .exportName])
  func contextsAreForTheExportOfThatName(option: Option) {
    var client = Self.structured()
    client.ask(.setMetaContext, Client.queries("disk", ["base:allocation"]))
    #expect(Self.contextID(client, "disk", option) != nil)
    #expect(Self.contextID(client, "other", option) == nil)
    // The same export by its other name: the spec speaks of names.
    #expect(Self.contextID(client, "", option) == nil)
  }
}
