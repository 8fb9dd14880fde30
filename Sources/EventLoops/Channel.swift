// One connected stream socket between its times with a worker: it waits on Dispatch sources and costs no thread.

@unsafe @preconcurrency import Dispatch
import Locking
import Syscalls

/// Owns a descriptor and tells, once per request to be told, when it can be read or written.
///
/// A hung-up socket is always ready. libdispatch removes it from its epoll set when it reports the hang-up (else EPOLLHUP,
/// which cannot be masked, would keep its manager thread busy), and its sources never fire again. So the hang-up is looked
/// for at every event and remembered, and from then on whoever asks is told at once.
package final class Channel: Sendable {
  /// Open until `close`; who uses it must know that nobody closes meanwhile.
  package let descriptor: Int32
  private let loop: EventLoop
  private let state: Locked<State>

  private struct State {
    var reading: Side
    var writing: Side
    var isHungUp = false
    var isClosed = false
    /// Sources whose cancel handler has not run.
    var sourceCount = 0
    var then: (@Sendable () -> Void)?

    subscript(direction: OneShotSource.Direction) -> Side {
      get {
        switch direction {
        case .reading: reading
        case .writing: writing
        }
      }
      set {
        switch direction {
        case .reading: reading = newValue
        case .writing: writing = newValue
        }
      }
    }
  }

  private struct Side {
    /// Made when first needed: most channels never wait to be written.
    var source: OneShotSource?
    var isAwaited = false
    /// Dropped when closed: it usually holds the owner of this channel.
    var body: (@Sendable () -> Void)?

    /// What to call, if anybody waits; the source stays silent until it is armed again.
    mutating func takeTurn() -> (@Sendable () -> Void)? {
      source?.disarm()
      if !isAwaited { return nil }
      isAwaited = false
      return body
    }
  }

  /// `onReadable` and `onWritable` run on the loop.
  package init(
    _ descriptor: consuming OwnedDescriptor, loop: EventLoop, onReadable: @escaping @Sendable () -> Void,
    onWritable: @escaping @Sendable () -> Void
  ) {
    self.descriptor = descriptor.take()
    self.loop = loop
    state = Locked(State(reading: Side(body: onReadable), writing: Side(body: onWritable)))
  }

  deinit {
    let isClosed = state.withLock { $0.isClosed }
    precondition(isClosed, "a channel is closed before it is dropped")
  }

  /// Calls `onReadable` once, on the loop, when there are bytes, the end of the stream, or an error. Any thread; asking again
  /// before that changes nothing. Ignored after `close`.
  package func awaitReadable() { arm(.reading) }

  /// Calls `onWritable` once, on the loop, when there is room or an error. Any thread; asking again before that changes
  /// nothing. Ignored after `close`.
  package func awaitWritable() { arm(.writing) }

  /// To be called about once a second, on the loop. A Unix socket that hangs up reports EPOLLHUP first and room to write only
  /// when the peer's queue is thrown away: libdispatch then drops the descriptor without an event to a source that waits to
  /// write.
  package func lookForHangUp() {
    let isLost = state.withLock { state in
      !state.isClosed && !state.isHungUp && state.writing.isAwaited && Sockets.isHungUp(descriptor)
    }
    if isLost { fired(.writing) }
  }

  /// Closes the descriptor when no source watches it any more, then runs `then` on the loop. Once; any thread. No handler
  /// starts after `then`; none after this when called on the loop.
  package func close(then: @escaping @Sendable () -> Void = {}) {
    let isUnwatched = state.withLock { state in
      precondition(!state.isClosed, "a channel is closed once")
      state.isClosed = true
      state.then = then
      state.reading.source?.cancel()
      state.writing.source?.cancel()
      return state.sourceCount == 0
    }
    if isUnwatched { loop.run { self.finish() } }
  }

  private func arm(_ direction: OneShotSource.Direction) {
    state.withLock { state in
      if state.isClosed || state[direction].isAwaited { return }
      state[direction].isAwaited = true
      if state.isHungUp { return loop.run { self.fired(direction) } }
      if state[direction].source == nil {
        state.sourceCount += 1
        state[direction].source = OneShotSource(
          direction, descriptor: descriptor, queue: loop.queue,
          onEvent: { self.fired(direction) }, onCancelled: { self.cancelled() })
      }
      state[direction].source?.arm()
    }
  }

  // MARK: On the loop

  private func fired(_ direction: OneShotSource.Direction) {
    let (onReadable, onWritable) = state.withLock { state -> ((@Sendable () -> Void)?, (@Sendable () -> Void)?) in
      if state.isClosed { return (nil, nil) }
      if !state.isHungUp { state.isHungUp = Sockets.isHungUp(descriptor) }
      return (
        state.isHungUp || direction == .reading ? state.reading.takeTurn() : nil,
        state.isHungUp || direction == .writing ? state.writing.takeTurn() : nil
      )
    }
    onReadable?()
    onWritable?()
  }

  private func cancelled() {
    let isLast = state.withLock { state in
      state.sourceCount -= 1
      return state.sourceCount == 0
    }
    if isLast { finish() }
  }

  private func finish() {
    Sockets.close(descriptor)
    let (then, reading, writing) = state.withLock { state in
      defer {
        state.then = nil
        state.reading = Side()
        state.writing = Side()
      }
      return (state.then, state.reading, state.writing)
    }
    // Whatever the closures and sources hold is released here, outside the lock.
    withExtendedLifetime((reading, writing)) { then?() }
  }
}
