// One connected stream socket between its times with a worker: it waits in the loop's epoll set and costs no thread.

import Locking
import Syscalls
import SystemPackage

/// Whom a channel tells: on the loop, or on the thread that attends to its sockets. Each call answers one `await…`.
package protocol ChannelOwner: AnyObject, Sendable {
  func channelIsReadable()
  func channelIsWritable()
  /// Both directions are closed, or the connection was reset.
  func channelIsHungUp()
  /// The system cannot watch the socket (ENOMEM, or ENOSPC: fs.epoll.max_user_watches). What was asked for is not told.
  func channelIsLost(_ error: Errno)
}

/// Owns a descriptor and tells, once per request to be told, when it can be read or written. A hung-up socket is both.
package final class Channel: WatchedSocket {
  /// Open until `close`; who uses it must know that nobody closes meanwhile.
  package let descriptor: Int32
  private let loop: EventLoop
  private let state = Locked(State())

  private struct State {
    /// Dropped when closed: it usually holds this channel.
    var owner: (any ChannelOwner)?
    /// Of its entry in the epoll set; nil before the first wait.
    var generation: UInt32?
    var awaited: Awaited = []
    var isClosed = false
  }

  private struct Awaited: OptionSet {
    let rawValue: UInt8
    static let reading = Awaited(rawValue: 1)
    static let writing = Awaited(rawValue: 2)
    static let hangUp = Awaited(rawValue: 4)

    /// epoll reports hang-ups and errors unasked.
    var events: Epoll.Events {
      var events: Epoll.Events = .oneShot
      if contains(.reading) { events.insert(.readable) }
      if contains(.writing) { events.insert(.writable) }
      return events
    }
  }

  package init(_ descriptor: consuming OwnedDescriptor, loop: EventLoop) {
    self.descriptor = descriptor.take()
    self.loop = loop
  }

  deinit {
    let isClosed = state.withLock { $0.isClosed }
    precondition(isClosed, "a channel is closed before it is dropped")
  }

  /// Whom to tell from now on; held until `close`. Before the first wait.
  package func setOwner(_ owner: any ChannelOwner) { state.withLock { $0.owner = owner } }

  /// Calls `channelIsReadable` once when there are bytes, the end of the stream, or an error. Any thread; asking
  /// again before that changes nothing. Ignored after `close`.
  package func awaitReadable() { arm(.reading) }

  /// Calls `channelIsWritable` once when there is room or an error. Any thread; asking again before that changes
  /// nothing. Ignored after `close`.
  package func awaitWritable() { arm(.writing) }

  /// Calls `channelIsHungUp` once when the peer has closed both directions or reset the connection. Any thread;
  /// asking again before that changes nothing. Ignored after `close`.
  package func awaitHangUp() { arm(.hangUp) }

  /// Closes the descriptor at once. Once; any thread. After this no event is looked at; called elsewhere than where
  /// owners are told, the owner may still be told of one that was.
  package func close() {
    let owner = state.withLock { state in
      precondition(!state.isClosed, "a channel is closed once")
      state.isClosed = true
      if state.generation != nil { loop.sockets.remove(descriptor) }
      Sockets.close(descriptor)
      return exchange(&state.owner, with: nil)
    }
    // Released outside the lock: it may be the last to hold this channel.
    withExtendedLifetime(owner) {}
  }

  private func arm(_ what: Awaited) {
    state.withLock { state in
      if state.isClosed || state.awaited.contains(what) { return }
      state.awaited.insert(what)
      watch(&state)
    }
  }

  private func watch(_ state: inout State) {
    if let generation = state.generation {
      return loop.sockets.rearm(descriptor, generation: generation, state.awaited.events)
    }
    do throws(Errno) {
      state.generation = try loop.sockets.add(self, state.awaited.events)
    } catch {
      let owner = state.owner
      state.awaited = []
      loop.run { owner?.channelIsLost(error) }
    }
  }

  // MARK: On the loop, or on the thread that attends

  func happened(_ events: Epoll.Events, generation: UInt32) {
    let (owner, told) = state.withLock { state -> ((any ChannelOwner)?, Awaited) in
      // Of an earlier socket with this number, or too late.
      guard !state.isClosed, state.generation == generation else { return (nil, []) }
      var told: Awaited = []
      if events.contains(.readable) { told.insert(.reading) }
      if events.contains(.writable) { told.insert(.writing) }
      if !events.isDisjoint(with: [.hungUp, .error]) { told = [.reading, .writing, .hangUp] }
      told.formIntersection(state.awaited)
      state.awaited.subtract(told)
      // One event ends the watch for all.
      if !state.awaited.isEmpty { watch(&state) }
      return (state.owner, told)
    }
    guard let owner else { return }
    if told.contains(.reading) { owner.channelIsReadable() }
    if told.contains(.writing) { owner.channelIsWritable() }
    if told.contains(.hangUp) { owner.channelIsHungUp() }
  }
}
