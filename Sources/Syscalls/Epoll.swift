// epoll(7): many descriptors watched as one.

import CLinux
import SystemPackage

/// A set of descriptors, closed with its owner. The set is itself readable while anything in it is ready. Any thread.
package final class Epoll: Sendable {
  /// EPOLL* bits: C has them as an enum that Swift does not see.
  package struct Events: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let readable = Events(rawValue: 0x1)
    package static let writable = Events(rawValue: 0x4)
    /// Both directions are closed. Always reported.
    package static let hungUp = Events(rawValue: 0x10)
    /// Always reported.
    package static let error = Events(rawValue: 0x8)
    /// Reported once; then nothing, not even a hang-up, until the descriptor is changed.
    package static let oneShot = Events(rawValue: 1 << 30)
  }

  private let own: OwnedDescriptor

  package init() throws(Errno) {
    own = OwnedDescriptor(owning: try checked(hf_epoll_create()))
  }

  package var descriptor: Int32 { own.number }

  /// `data` comes back with each event.
  package func add(_ descriptor: Int32, _ events: Events, data: UInt64) throws(Errno) {
    _ = try checked(hf_epoll_add(own.number, descriptor, events.rawValue, data))
  }

  package func change(_ descriptor: Int32, _ events: Events, data: UInt64) throws(Errno) {
    _ = try checked(hf_epoll_change(own.number, descriptor, events.rawValue, data))
  }

  package func remove(_ descriptor: Int32) throws(Errno) {
    _ = try checked(hf_epoll_remove(own.number, descriptor))
  }

  package static let eventsPerCallMax = 64

  /// Calls `body` for each descriptor that is ready, at most `eventsPerCallMax`; waits for the first one up to `milliseconds`.
  /// - Returns: how many they were.
  package func wait(milliseconds: Int32 = 0, _ body: (_ data: UInt64, Events) -> Void) throws(Errno) -> Int {
    var ready = [64 of hf_epoll_ready](repeating: hf_epoll_ready())
    var span = ready.mutableSpan
    let count = Int(
      try checked(
        unsafe span.withUnsafeMutableBufferPointer {
          unsafe hf_epoll_wait(own.number, $0.baseAddress, Int32($0.count), milliseconds)
        }))
    for index in 0..<count { body(ready[index].data, Events(rawValue: ready[index].events)) }
    return count
  }
}
