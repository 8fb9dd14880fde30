// What connections cost that nobody serves: no processor time, whatever their peers did, and little memory.
//
// Each test measures the process, so each is a process of its own.

import EventLoops
import Glibc
import Syscalls
import SystemPackage
import Testing

/// What the peer did while its channel was parked.
enum PeerDeed: CaseIterable, Codable {
  case halfClosed
  case hungUp
  case hungUpWithUnreadData
  case reset
}

/// What the channel waits for meanwhile.
enum Parked: CaseIterable, Codable {
  /// It never waited: it is in no epoll set.
  case fresh
  /// It was told once that it is readable, and did not ask again.
  case told
  /// Its send queue is full; it is not read.
  case waitingToWrite
  /// Told once that it is readable; since then it waits to write.
  case toldAndWaitingToWrite
}

@Suite struct ParkedChannelTests {
  @Test(arguments: PeerDeed.allCases, Parked.allCases)
  func aPeerThatIsGoneCostsNoProcessorTime(deed: PeerDeed, parked: Parked) async {
    await #expect(processExitsWith: .success) { [deed, parked] in
      let loop = EventLoop(label: "test")
      let readable = Tally()
      let listener = try Sockets.listenTCP(try localhost())
      let client = try Sockets.connect(to: try #require(try Sockets.localAddress(listener.number)))
      let server = OwnedDescriptor(owning: try Sockets.accept(listener.number).descriptor)
      let channel = Listening.channel(server, loop, onReadable: { readable.add() })
      let descriptor = channel.descriptor

      if parked == .told || parked == .toldAndWaitingToWrite {
        try sent(client.number, [1])
        channel.awaitReadable()
        #expect(readable.wait())
      }
      if parked == .waitingToWrite || parked == .toldAndWaitingToWrite || deed == .hungUpWithUnreadData {
        fill(descriptor)
      }
      if parked == .waitingToWrite || parked == .toldAndWaitingToWrite { channel.awaitWritable() }
      loop.settle()

      switch deed {
      case .halfClosed: Sockets.shutdown(client.number, .writing)
      case .hungUp, .hungUpWithUnreadData:
        // Both ends: a TCP socket hangs up when its own side is shut as well.
        Sockets.shutdown(client.number, .both)
        Sockets.shutdown(descriptor, .writing)
      case .reset:
        var now = linger(l_onoff: 1, l_linger: 0)
        unsafe setsockopt(client.number, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
        Sockets.close(client.take())
      }

      // The first event may cost something.
      sleepMilliseconds(30)
      let before = processCPUMilliseconds()
      sleepMilliseconds(300)
      let spent = processCPUMilliseconds() - before
      // A thread that spins has spent 300.
      #expect(spent < 60, "\(deed), \(parked): \(spent) ms of processor time in 300 ms")

      // And it is still told when it asks.
      channel.awaitReadable()
      #expect(readable.wait())
      channel.close()
    }
  }

  /// Two sockets are ready at once. Whoever is told first closes the other, and a new one gets its number.
  @Test func aNewSocketIsNotToldWhatHappenedToTheOldOneOfItsNumber() async {
    await #expect(processExitsWith: .success) {
      let loop = EventLoop(label: "test")
      let old = Notes<Channel>()
      let told = Tally()
      let toldNew = Tally()
      let new = Notes<Channel>()
      // High numbers, which nobody else in the process gets by opening something.
      let pairs = try [Int32(500), 501].map { number in
        let pair = try Sockets.pair().take()
        #expect(dup2(pair.first, number) == number)
        Sockets.close(pair.first)
        return (first: number, second: pair.second)
      }
      for pair in pairs {
        old.add(
          Listening.channel(
            OwnedDescriptor(owning: pair.first), loop,
            onReadable: {
              if told.count == 0 {
                guard let other = old.all.first(where: { $0.descriptor != pair.first }) else { return }
                other.close()
                guard let fresh = try? Sockets.pair().take(), dup2(fresh.first, other.descriptor) >= 0 else { return }
                Sockets.close(fresh.first)
                let channel = Listening.channel(
                  OwnedDescriptor(owning: other.descriptor), loop, onReadable: { toldNew.add() })
                channel.awaitReadable()
                new.add(channel)
              }
              told.add()
            }))
      }
      loop.run {
        for channel in old.all { channel.awaitReadable() }
        for pair in pairs { _ = try? sent(pair.second, [1]) }
      }
      #expect(told.wait())
      loop.settle()
      loop.settle()
      #expect(new.all.count == 1)
      #expect(told.count == 1)
      #expect(toldNew.count == 0)
      for channel in new.all { channel.close() }
      old.all.first { channel in !new.all.contains { $0.descriptor == channel.descriptor } }?.close()
    }
  }

  @Test func anIdleChannelIsSmall() async {
    await #expect(processExitsWith: .success) {
      try DescriptorLimit.raise(to: 8192)
      let loop = EventLoop(label: "test")
      func park(_ count: Int) throws -> [Channel] {
        try (0..<count).map { _ in
          let channel = Channel(OwnedDescriptor(owning: try Sockets.pair().take().first), loop: loop)
          channel.awaitReadable()
          return channel
        }
      }
      var channels = try park(100)
      loop.settle()
      let before = try residentBytes()
      channels += try park(1000)
      loop.settle()
      let each = (try residentBytes() - before) / 1000
      #expect(each < 1000, "\(each) bytes each")
      for channel in channels { channel.close() }
    }
  }
}

private func residentBytes() throws -> Int {
  let file = try FileDescriptor.open(FilePath("/proc/self/statm"), .readOnly)
  defer { try? file.close() }
  var bytes = [UInt8](repeating: 0, count: 128)
  let count = unsafe try bytes.withUnsafeMutableBytes { unsafe try file.read(into: $0) }
  let fields = String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: " ")
  return try #require(Int(fields[1])) * 4096
}
