// A listener accepts whatever comes, and survives a system that is out of descriptors.

import EventLoops
import Locking
import Synchronization
import Syscalls
import SystemPackage
import Testing

/// What a listener did; closes what it was given at its end.
private final class Visits: Sendable {
  let accepted = Tally()
  let told = Tally()
  let peers = Notes<PeerAddress>()
  let events = Notes<ListenerEvent>()
  private let descriptors = Locked<[Int32]>([])

  func add(_ descriptor: Int32, _ peer: PeerAddress) {
    descriptors.withLock { $0.append(descriptor) }
    peers.add(peer)
    accepted.add()
  }

  func add(_ event: ListenerEvent) {
    events.add(event)
    told.add()
  }

  func closeAll() {
    descriptors.withLock { all in
      for each in all { Sockets.close(each) }
      all = []
    }
  }

  deinit { closeAll() }
}

private func listen(
  _ socket: consuming OwnedDescriptor, _ loop: EventLoop, _ visits: Visits,
  accept: @escaping Listener.Accept = Listener.systemAccept
) throws -> Listener {
  try Listener(
    socket, loop: loop,
    onAccept: { connection, peer in
      #expect(loop.isOnLoop)
      visits.add(connection.take(), peer)
    },
    onEvent: { event in
      #expect(loop.isOnLoop)
      visits.add(event)
    }, accept: accept)
}

private func close(_ listener: Listener) {
  let closed = Tally()
  listener.close { closed.add() }
  #expect(closed.wait())
}

@Suite struct ListenerTests {
  let loop = EventLoop(label: "test")
  private let visits = Visits()

  @Test(arguments: ["127.0.0.1", "::1"])
  func connectionsOfABurstAreAllAccepted(host: String) throws {
    let socket = try Sockets.listenTCP(try localhost(host))
    let address = try #require(try Sockets.localAddress(socket.number))
    // More than are accepted in one event, waiting before there is a listener.
    let clients = try (0..<50).map { _ in try Sockets.connect(to: address).take() }
    let listener = try listen(socket, loop, visits)
    #expect(visits.accepted.wait(for: 50))
    let late = try Sockets.connect(to: address)
    #expect(visits.accepted.wait())
    #expect(Set(visits.peers.all).count == 51)
    #expect(visits.events.all.isEmpty)
    close(listener)
    #expect(throws: Errno.connectionRefused) { _ = try Sockets.connect(to: address).number }
    Sockets.close(late.take())
    for client in clients { Sockets.close(client) }
  }

  @Test func aUnixListenerKnowsItsPeers() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/s"
    let made = try UnixSocketFile.listen(path: path, mode: 0o600)
    let listener = try listen(made.takeSocket(), loop, visits)
    let client = try Sockets.connect(to: .unix(path: path))
    #expect(visits.accepted.wait())
    #expect(visits.peers.all.first?.isUnix == true)
    close(listener)
    #expect(throws: Errno.connectionRefused) { _ = try Sockets.connect(to: .unix(path: path)).number }
    withExtendedLifetime(client.number) {}
  }

  @Test(arguments: [Errno.tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory, .noBufferSpace])
  func anEpisodeOfShortageIsToldOnceAndEnds(error: Errno) throws {
    let socket = try Sockets.listenTCP(try localhost())
    let address = try #require(try Sockets.localAddress(socket.number))
    let left = Counter(failures: 2)
    let listener = try listen(socket, loop, visits) { (descriptor) throws(Errno) in
      if left.takeOne() { throw error }
      return try Sockets.accept(descriptor)
    }
    let start = MonotonicClock.nanoseconds
    let client = try Sockets.connect(to: address)
    #expect(visits.accepted.wait())
    // Two pauses of 200 ms.
    #expect(MonotonicClock.nanoseconds - start >= 390_000_000)
    #expect(visits.told.wait(for: 2))
    #expect(visits.events.all == [.paused(error), .resumed])
    close(listener)
    withExtendedLifetime(client.number) {}
  }

  @Test func aConnectionThatEndedBeforeItWasAcceptedIsSkipped() throws {
    let socket = try Sockets.listenTCP(try localhost())
    let address = try #require(try Sockets.localAddress(socket.number))
    let left = Counter(failures: 40)
    let listener = try listen(socket, loop, visits) { (descriptor) throws(Errno) in
      if left.takeOne() { throw .connectionAbort }
      return try Sockets.accept(descriptor)
    }
    let client = try Sockets.connect(to: address)
    #expect(visits.accepted.wait())
    #expect(visits.events.all.isEmpty)
    close(listener)
    withExtendedLifetime(client.number) {}
  }

  @Test func aPausedListenerCanBeClosed() throws {
    let socket = try Sockets.listenTCP(try localhost())
    let address = try #require(try Sockets.localAddress(socket.number))
    let listener = try listen(socket, loop, visits) { (_) throws(Errno) in throw .tooManyOpenFiles }
    let client = try Sockets.connect(to: address)
    #expect(visits.told.wait())
    close(listener)
    // The end of the pause finds it closed.
    let later = Tally()
    loop.after(milliseconds: 250) { later.add() }
    #expect(later.wait())
    #expect(visits.events.all == [.paused(.tooManyOpenFiles)])
    withExtendedLifetime(client.number) {}
  }

  @Test func runningOutOfDescriptorsIsSurvived() async {
    await #expect(processExitsWith: .success) {
      let loop = EventLoop(label: "test")
      let visits = Visits()
      let socket = try Sockets.listenTCP(try localhost())
      let address = try #require(try Sockets.localAddress(socket.number))
      let listener = try listen(socket, loop, visits)
      // One connection to warm everything up that opens files.
      let first = try Sockets.connect(to: address)
      #expect(visits.accepted.wait())
      // Clients first, then no descriptor is left to accept them.
      let clients = try (0..<20).map { _ in try Sockets.stream(for: address).take() }
      let highest = try #require(clients.max())
      try DescriptorLimit.set(soft: UInt64(highest) + 4)
      for client in clients { try Sockets.connect(client, to: address) }
      #expect(visits.told.wait())
      #expect(visits.events.all == [.paused(.tooManyOpenFiles)])
      #expect(visits.accepted.count < 21)
      // Connections end; the rest gets in.
      try DescriptorLimit.set(soft: UInt64(highest) + 100)
      #expect(visits.accepted.wait(for: 20))
      #expect(visits.told.wait())
      #expect(visits.events.all == [.paused(.tooManyOpenFiles), .resumed])
      close(listener)
      withExtendedLifetime(first.number) {}
    }
  }
}

/// Some failures, then none.
private final class Counter: Sendable {
  private let left: Atomic<Int>

  init(failures: Int) { left = Atomic(failures) }

  func takeOne() -> Bool { left.subtract(1, ordering: .relaxed).oldValue > 0 }
}
