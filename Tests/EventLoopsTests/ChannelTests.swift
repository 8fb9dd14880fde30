// A channel tells once per request, also after the peer has gone; and tells nobody after it was closed.

import EventLoops
import Glibc
import Syscalls
import SystemPackage
import Testing

/// One end is a channel, the other a plain socket.
private final class Line: Sendable {
  let loop = EventLoop(label: "test")
  let readable = Tally()
  let writable = Tally()
  let hungUp = Tally()
  let channel: Channel
  let peer: Channel

  init(tcp: Bool = false) throws {
    // The far end is owned by a channel that watches nothing.
    if tcp {
      let listener = try Sockets.listenTCP(try localhost())
      let client = try Sockets.connect(to: try #require(try Sockets.localAddress(listener.number)))
      let server = OwnedDescriptor(owning: try Sockets.accept(listener.number).descriptor)
      channel = Line.channel(server, loop, readable, writable, hungUp)
      peer = Line.channel(client, loop, Tally(), Tally(), Tally())
    } else {
      let pair = try Sockets.pair()
      let ends = pair.take()
      channel = Line.channel(OwnedDescriptor(owning: ends.first), loop, readable, writable, hungUp)
      peer = Line.channel(OwnedDescriptor(owning: ends.second), loop, Tally(), Tally(), Tally())
    }
  }

  private static func channel(
    _ descriptor: consuming OwnedDescriptor, _ loop: EventLoop, _ readable: Tally, _ writable: Tally, _ hungUp: Tally
  ) -> Channel {
    Listening.channel(
      descriptor, loop,
      onReadable: {
        #expect(loop.isOnLoop)
        readable.add()
      },
      onWritable: {
        #expect(loop.isOnLoop)
        writable.add()
      },
      onHangUp: {
        #expect(loop.isOnLoop)
        hungUp.add()
      })
  }

  func closePeer() { peer.close() }

  func close() { channel.close() }
}

@Suite struct ChannelTests {
  @Test(arguments: [false, true])
  func readinessIsToldOncePerRequest(tcp: Bool) throws {
    let line = try Line(tcp: tcp)
    try sent(line.peer.descriptor, [1])
    line.loop.settle()
    #expect(line.readable.count == 0)
    for round in 1...5 {
      line.channel.awaitReadable()
      try #require(line.readable.wait())
      // The byte is still there: only who asks again is told again.
      line.loop.settle()
      #expect(line.readable.count == round)
    }
    drain(line.channel.descriptor)
    line.channel.awaitReadable()
    line.channel.awaitReadable()
    line.loop.settle()
    #expect(line.readable.count == 5)
    try sent(line.peer.descriptor, [2])
    #expect(line.readable.wait())
    line.loop.settle()
    #expect(line.readable.count == 6)
    #expect(line.writable.count == 0)
    line.close()
    line.closePeer()
  }

  @Test(arguments: [false, true])
  func roomIsToldWhenThePeerHasRead(tcp: Bool) throws {
    let line = try Line(tcp: tcp)
    line.channel.awaitWritable()
    #expect(line.writable.wait())
    fill(line.channel.descriptor)
    line.channel.awaitWritable()
    line.loop.settle()
    #expect(line.writable.count == 1)
    let written = line.writable
    // TCP gives room in several steps.
    #expect(
      eventually {
        drain(line.peer.descriptor)
        return written.count == 2
      })
    #expect(line.readable.count == 0)
    line.close()
    line.closePeer()
  }

  @Test(arguments: [false, true])
  func aHalfClosedPeerIsToldAsReadableEachTime(tcp: Bool) throws {
    let line = try Line(tcp: tcp)
    Sockets.shutdown(line.peer.descriptor, .writing)
    for _ in 0..<3 {
      line.channel.awaitReadable()
      try #require(line.readable.wait())
    }
    #expect(try received(line.channel.descriptor) == [])
    line.close()
    line.closePeer()
  }

  @Test(arguments: [false, true], [false, true])
  func aHungUpPeerIsToldEachTime(tcp: Bool, writingFirst: Bool) throws {
    let line = try Line(tcp: tcp)
    fill(line.channel.descriptor)
    line.channel.awaitReadable()
    if writingFirst { line.channel.awaitWritable() }
    line.loop.settle()
    // TCP: unread data makes this a reset.
    line.closePeer()
    #expect(line.readable.wait())
    if writingFirst { #expect(line.writable.wait()) }
    for _ in 0..<5 {
      line.channel.awaitReadable()
      try #require(line.readable.wait())
      line.channel.awaitWritable()
      try #require(line.writable.wait())
    }
    line.close()
  }

  /// The peer sends and goes; the server reads in pieces, parking in between.
  @Test(arguments: [false, true])
  func whatWasSentBeforeAHangUpIsReadInPieces(tcp: Bool) throws {
    let line = try Line(tcp: tcp)
    try sent(line.peer.descriptor, [UInt8](repeating: 1, count: 640))
    line.closePeer()
    var bytes = 0
    while true {
      line.channel.awaitReadable()
      try #require(line.readable.wait())
      let count = try received(line.channel.descriptor).count
      if count == 0 { break }
      bytes += count
    }
    #expect(bytes == 640)
    line.close()
  }

  @Test func aHangUpWakesWhoWaitsToWrite() throws {
    let line = try Line()
    fill(line.channel.descriptor)
    line.channel.awaitWritable()
    line.closePeer()
    #expect(line.writable.wait())
    line.close()
  }

  @Test(arguments: [false, true])
  func closingEndsTheConnectionWhateverIsAwaited(tcp: Bool) throws {
    for asked in 0..<4 {
      let line = try Line(tcp: tcp)
      fill(line.channel.descriptor)
      if asked & 1 != 0 { line.channel.awaitReadable() }
      if asked & 2 != 0 { line.channel.awaitWritable() }
      line.close()
      // Ignored, as the owner of a lease may be late.
      line.channel.awaitReadable()
      line.channel.awaitWritable()
      drain(line.peer.descriptor)
      #expect(try received(line.peer.descriptor) == [])
      #expect(line.readable.count + line.writable.count == 0)
      line.closePeer()
    }
  }

  /// A connection that is not read now must learn of its end, and of nothing else.
  @Test(arguments: [false, true])
  func onlyAHangUpIsToldToWhoAskedForThat(tcp: Bool) throws {
    let line = try Line(tcp: tcp)
    line.channel.awaitHangUp()
    try sent(line.peer.descriptor, [1])
    Sockets.shutdown(line.peer.descriptor, .writing)
    line.loop.settle()
    #expect(line.hungUp.count == 0)
    fill(line.channel.descriptor)
    // TCP: unread data makes this a reset.
    line.closePeer()
    #expect(line.hungUp.wait())
    line.loop.settle()
    #expect(line.hungUp.count == 1)
    #expect(line.readable.count + line.writable.count == 0)
    line.close()
  }

  /// One event ends the watch in the epoll set for all that was asked.
  @Test(arguments: [false, true])
  func whatWasNotToldIsStillAwaited(tcp: Bool) throws {
    let line = try Line(tcp: tcp)
    line.channel.awaitReadable()
    line.channel.awaitHangUp()
    line.channel.awaitWritable()
    #expect(line.writable.wait())
    line.loop.settle()
    #expect(line.readable.count + line.hungUp.count == 0)
    try sent(line.peer.descriptor, [1])
    #expect(line.readable.wait())
    #expect(line.hungUp.count == 0)
    fill(line.channel.descriptor)
    line.closePeer()
    #expect(line.hungUp.wait())
    line.close()
  }

  /// More than one look at the epoll set brings, and more than one event of its source handles.
  @Test func manyThatAreReadyAtOnceAreAllTold() throws {
    let loop = EventLoop(label: "test")
    let readable = Tally()
    let pairs = try (0..<600).map { _ in try Sockets.pair().take() }
    let channels = pairs.map { pair in
      Listening.channel(OwnedDescriptor(owning: pair.first), loop, onReadable: { readable.add() })
    }
    loop.run {
      for channel in channels { channel.awaitReadable() }
      for pair in pairs { _ = try? sent(pair.second, [1]) }
    }
    #expect(readable.wait(for: 600))
    loop.settle()
    #expect(readable.count == 600)
    for channel in channels { channel.close() }
    for pair in pairs { Sockets.close(pair.second) }
  }

  @Test func noHandlerRunsAfterAChannelWasClosedOnTheLoop() throws {
    let line = try Line()
    let closed = Tally()
    try sent(line.peer.descriptor, [1])
    line.loop.run {
      // Both are due at once, on this very loop, and neither may run.
      line.channel.awaitReadable()
      line.channel.awaitWritable()
      sleepMilliseconds(5)
      line.channel.close()
      closed.add()
    }
    #expect(closed.wait())
    line.loop.settle()
    #expect(line.readable.count + line.writable.count == 0)
    line.closePeer()
  }

  @Test func aClosedChannelReleasesItsOwner() throws {
    final class Owner: Sendable {}
    let loop = EventLoop(label: "test")
    weak var owner: Owner?
    weak var channel: Channel?
    do {
      let pair = try Sockets.pair()
      let ends = pair.take()
      let strong = Owner()
      owner = strong
      let made = Listening.channel(
        OwnedDescriptor(owning: ends.first), loop, onReadable: { withExtendedLifetime(strong) {} },
        onWritable: { withExtendedLifetime(strong) {} })
      channel = made
      made.awaitReadable()
      made.awaitWritable()
      made.close()
      Sockets.close(ends.second)
    }
    #expect(eventually { owner == nil && channel == nil })
  }

  /// Awaiting, hanging up and closing from several threads at once, many times: nothing traps, every close ends.
  @Test func closingWhileEventsArriveIsSafe() throws {
    var random = SplitMix(seed: 0x5eed)
    for _ in 0..<300 {
      let line = try Line()
      let closed = Tally()
      let delays = (0..<4).map { _ in Int(random.next() % 200) }
      let ended = Tally()
      for (number, delay) in delays.enumerated() {
        try PosixThread.spawn(name: "chaos") {
          for _ in 0..<delay { _ = line.channel.descriptor }
          switch number {
          case 0: for _ in 0..<20 { line.channel.awaitReadable() }
          case 1: for _ in 0..<20 { line.channel.awaitWritable() }
          case 2: Sockets.shutdown(line.peer.descriptor, .both)
          default:
            line.channel.close()
            closed.add()
          }
          ended.add()
        }
      }
      try #require(ended.wait(for: 4))
      try #require(closed.wait())
      line.closePeer()
    }
  }
}

/// splitmix64, for tests that must be repeatable.
struct SplitMix: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
