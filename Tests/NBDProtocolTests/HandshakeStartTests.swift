// First bytes and client flags: rows A1.

import Testing

@testable import NBDProtocol

struct HandshakeStartTests {
  @Test func greetingIsTwoMagicNumbersAndFlags() {
    #expect(Handshake.greeting == Array("NBDMAGICIHAVEOPT".utf8) + [0, 3])
  }

  @Test func greetingOffersFixedNewstyleAndNoZeroesOnly() {
    #expect(HandshakeFlags.offered == [.fixedNewstyle, .noZeroes])
    #expect(HandshakeFlags.offered.rawValue == 3)
  }

  @Test(arguments: [0, 1, 2, 3] as [UInt32])
  func offeredClientFlagsAreAccepted(flags: UInt32) {
    var client = Conversation()
    #expect(client.say(Client.flags(flags)).isEmpty)
    #expect(client.ending == .waits)
  }

  @Test(arguments: (2..<32).map { UInt32(1) << UInt32($0) })
  func unknownClientFlagCloses(flag: UInt32) {
    var client = Conversation()
    #expect(client.say(Client.flags(Client.fixed | flag)).isEmpty)
    #expect(client.ending == .violation(atByte: 0))
  }

  @Test func noZeroesLeavesOutThePadding() {
    var client = Conversation.haggling(flags: Client.fixed | Client.noZeroes)
    #expect(client.say(Client.option(.exportName, Array("disk".utf8))).count == 10)
    #expect(client.ending == .transmission)
  }

  @Test func withoutNoZeroesPaddingFollows() {
    var client = Conversation.haggling(flags: Client.fixed)
    let answer = client.say(Client.option(.exportName, Array("disk".utf8)))
    #expect(answer.count == 134)
    #expect(answer.dropFirst(10).allSatisfy { $0 == 0 })
  }

  @Test func paddingIsDecidedPerConnection() {
    var without = Conversation.haggling(flags: Client.noZeroes)
    var with = Conversation.haggling(flags: 0)
    let name = Client.option(.exportName, Array("disk".utf8))
    #expect(without.say(name).count == 10)
    #expect(with.say(name).count == 134)
  }

  @Test(arguments: Option.allCases.filter { $0 != .exportName }.map(\.rawValue) + [0, 77])
  func clientWithoutFixedNewstyleMaySendExportNameOnly(option: UInt32) {
    var client = Conversation.haggling(flags: Client.noZeroes)
    #expect(client.say(Client.option(option)).isEmpty)
    #expect(client.ending == .violation(atByte: 4))

    var plain = Conversation.haggling(flags: Client.noZeroes)
    plain.say(Client.option(.exportName, Array("disk".utf8)))
    #expect(plain.ending == .transmission)
  }

  @Test func wrongOptionMagicCloses() {
    var client = Conversation.haggling()
    client.ask(.list)
    let before = UInt64(4 + 16)
    #expect(client.say(Array("GET / HTTP/1.0\r\n".utf8)).isEmpty)
    #expect(client.ending == .violation(atByte: before))
  }

  @Test func everyFailingOptionLeavesHagglingOpen() {
    var client = Conversation.haggling()
    for option in Option.allCases where option != .exportName && option != .abort {
      // Not a valid body for any of them.
      let replies = client.ask(option, [0xff])
      #expect(replies.count == 1, "\(option)")
      #expect(replies.last?.isError == true, "\(option)")
      #expect(client.ending == .waits, "\(option)")
    }
    #expect(client.types(.go, Client.info("disk")) == [.info, .ack])
    #expect(client.ending == .transmission)
  }
}
