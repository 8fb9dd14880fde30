// What the tests of this target share: waiting with a bound, counting, small sockets.

import Dispatch
import EventLoops
import Foundation
import Glibc
import Locking
import Synchronization
import Syscalls
import SystemPackage
import Testing

/// Counts things that happen on other threads; waits until enough have.
final class Tally: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)
  private let total = Atomic<Int>(0)

  var count: Int { total.load(ordering: .sequentiallyConsistent) }

  func add() {
    total.add(1, ordering: .sequentiallyConsistent)
    semaphore.signal()
  }

  /// One more than all waits before. False after ten seconds.
  func wait() -> Bool { semaphore.wait(timeout: .now() + .seconds(10)) == .success }

  func wait(for count: Int) -> Bool { (0..<count).allSatisfy { _ in wait() } }
}

/// Closed until opened; then open for ever.
final class Gate: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)

  func open() { semaphore.signal() }

  /// Not for ever: a test that fails must end.
  func pass() {
    #expect(semaphore.wait(timeout: .now() + .seconds(20)) == .success, "the gate was never opened")
    semaphore.signal()
  }
}

/// A list that several threads append to.
final class Notes<Entry: Sendable>: Sendable {
  private let entries = Locked<[Entry]>([])

  var all: [Entry] { entries.withLock { $0 } }

  func add(_ entry: Entry) { entries.withLock { $0.append(entry) } }
}

extension EventLoop {
  /// Returns when everything that was on the loop has run.
  func settle() {
    let done = Tally()
    run { done.add() }
    #expect(done.wait())
  }
}

/// Waits until `condition` holds, for ten seconds at most. For what nothing announces (the end of a thread).
func eventually(_ condition: () -> Bool) -> Bool {
  for _ in 0..<5000 {
    if condition() { return true }
    sleepMilliseconds(2)
  }
  return false
}

/// At most 64 bytes.
func received(_ descriptor: Int32, flags: Sockets.Flags = []) throws(Errno) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 64)
  var span = bytes.mutableSpan
  var raw = unsafe span.mutableBytes
  let count = try Sockets.recv(descriptor, into: &raw, flags: flags)
  return Array(bytes.prefix(count))
}

@discardableResult
func sent(_ descriptor: Int32, _ bytes: [UInt8], flags: Sockets.Flags = []) throws(Errno) -> Int {
  try Sockets.send(descriptor, unsafe bytes.span.bytes, flags: flags)
}

/// Sends until the socket takes no more.
func fill(_ descriptor: Int32) {
  let bytes = [UInt8](repeating: 7, count: 4096)
  while (try? sent(descriptor, bytes, flags: .dontWait)) != nil {}
}

/// Receives until nothing is left.
func drain(_ descriptor: Int32) {
  while let bytes = try? received(descriptor, flags: .dontWait), !bytes.isEmpty {}
}

/// User and system time of this process.
func processCPUMilliseconds() -> Int {
  var usage = rusage()
  unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
  let seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
  let microseconds = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec
  return seconds * 1000 + microseconds / 1000
}

func localhost(_ host: String = "127.0.0.1") throws -> SocketAddress {
  try #require(try SocketAddress.resolve(host: host, port: 0).first)
}

/// A directory of its own, removed with everything in it when the value goes.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    path = "/tmp/holdfast-eventloops-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// The owner of a channel, for tests: does nothing but what it was given.
final class Listening: ChannelOwner {
  private let onReadable: @Sendable () -> Void
  private let onWritable: @Sendable () -> Void
  private let onHangUp: @Sendable () -> Void

  private init(
    _ onReadable: @escaping @Sendable () -> Void, _ onWritable: @escaping @Sendable () -> Void,
    _ onHangUp: @escaping @Sendable () -> Void
  ) {
    self.onReadable = onReadable
    self.onWritable = onWritable
    self.onHangUp = onHangUp
  }

  static func channel(
    _ descriptor: consuming OwnedDescriptor, _ loop: EventLoop, onReadable: @escaping @Sendable () -> Void = {},
    onWritable: @escaping @Sendable () -> Void = {}, onHangUp: @escaping @Sendable () -> Void = {}
  ) -> Channel {
    let channel = Channel(descriptor, loop: loop)
    channel.setOwner(Listening(onReadable, onWritable, onHangUp))
    return channel
  }

  static func owner(onReadable: @escaping @Sendable () -> Void) -> Listening { Listening(onReadable, {}, {}) }

  func channelIsReadable() { onReadable() }
  func channelIsWritable() { onWritable() }
  func channelIsHungUp() { onHangUp() }
  func channelIsLost(_ error: Errno) { Issue.record("a channel was lost: \(error)") }
}
