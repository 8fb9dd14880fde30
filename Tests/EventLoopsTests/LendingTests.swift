// While events come fast a thread waits for sockets in the loop's place; owners are told all the same, by one thread at a time.

import EventLoops
import Glibc
import Synchronization
import Syscalls
import SystemPackage
import Testing

/// A loop that lends its sockets to threads made for that, and one channel that is told again and again.
private final class Lender: Sendable {
  let loop = EventLoop(label: "test")
  let lent = Tally()
  let returned = Tally()
  let toldOnLoop = Atomic<Int>(0)
  let toldElsewhere = Atomic<Int>(0)
  let readable = Tally()
  private let telling = Atomic<Int>(0)
  let channel: Channel
  let peer: OwnedDescriptor

  init(isWilling: Bool = true) throws {
    let ends = try Sockets.pair().take()
    peer = OwnedDescriptor(owning: ends.second)
    channel = Channel(OwnedDescriptor(owning: ends.first), loop: loop)
    channel.setOwner(Listening.owner { [unowned self] in told() })
    loop.lendSockets { [weak self] in
      guard let self else { return false }
      lent.add()
      if isWilling { try? PosixThread.spawn(name: "attends") { self.attend() } }
      return isWilling
    }
  }

  private func attend() {
    loop.attendSockets(quietMilliseconds: 50, wait: { $0() }, told: {})
    loop.takeSocketsBack()
    returned.add()
  }

  private func told() {
    #expect(telling.add(1, ordering: .sequentiallyConsistent).newValue == 1, "two threads tell at once")
    drain(channel.descriptor)
    if loop.isOnLoop {
      toldOnLoop.add(1, ordering: .relaxed)
    } else {
      toldElsewhere.add(1, ordering: .relaxed)
    }
    telling.subtract(1, ordering: .sequentiallyConsistent)
    readable.add()
  }

  /// One event; waits until it is told.
  func event() throws {
    channel.awaitReadable()
    try sent(peer.number, [1])
    try #require(readable.wait())
  }

  /// Events, one right after the other, until the loop has asked for a thread.
  func hurry() throws {
    for _ in 0..<10_000 where lent.count == 0 { try event() }
    try #require(lent.wait(), "ten thousand events in a row were not quick")
  }
}

@Suite struct LendingTests {
  @Test func socketsThatAreBusyAreLentAndComeBack() throws {
    let lender = try Lender()
    try lender.hurry()
    for _ in 0..<200 { try lender.event() }
    #expect(lender.toldElsewhere.load(ordering: .relaxed) > 0)
    // Nothing happens for 50 ms.
    #expect(lender.returned.wait())
    let before = lender.toldOnLoop.load(ordering: .relaxed)
    try lender.event()
    #expect(lender.toldOnLoop.load(ordering: .relaxed) == before + 1)
    lender.channel.close()
  }

  @Test func withoutAThreadTheLoopGoesOn() throws {
    let lender = try Lender(isWilling: false)
    try lender.hurry()
    for _ in 0..<100 { try lender.event() }
    #expect(lender.toldElsewhere.load(ordering: .relaxed) == 0)
    lender.channel.close()
  }

  @Test func slowEventsAreToldOnTheLoop() throws {
    let lender = try Lender()
    for _ in 0..<12 {
      try lender.event()
      sleepMilliseconds(10)
    }
    #expect(lender.toldOnLoop.load(ordering: .relaxed) == 12)
    #expect(lender.lent.count == 0)
    lender.channel.close()
  }

  /// Channels are closed and made elsewhere while a thread attends.
  @Test func channelsComeAndGoWhileTheirSocketsAreLent() throws {
    let lender = try Lender()
    try lender.hurry()
    for _ in 0..<300 {
      let ends = try Sockets.pair().take()
      let told = Tally()
      let channel = Listening.channel(OwnedDescriptor(owning: ends.first), lender.loop, onReadable: { told.add() })
      channel.awaitReadable()
      try sent(ends.second, [1])
      try #require(told.wait())
      channel.awaitReadable()
      channel.close()
      Sockets.close(ends.second)
    }
    lender.channel.close()
  }
}
