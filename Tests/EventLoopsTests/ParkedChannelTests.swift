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
  /// It never waited: no source was made.
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
      let channel = Channel(
        server, loop: loop, onReadable: { readable.add() },
        // As a server does that still has something to send: fills up and waits again.
        onWritable: {})
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
      let closed = Tally()
      channel.close { closed.add() }
      #expect(closed.wait())
    }
  }

  @Test func anIdleChannelIsSmall() async {
    await #expect(processExitsWith: .success) {
      try DescriptorLimit.raise(to: 8192)
      let loop = EventLoop(label: "test")
      func park(_ count: Int) throws -> [Channel] {
        try (0..<count).map { _ in
          let channel = Channel(
            OwnedDescriptor(owning: try Sockets.pair().take().first), loop: loop, onReadable: {}, onWritable: {})
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
      #expect(each < 3000, "\(each) bytes each")
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
