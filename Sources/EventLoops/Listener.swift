// Accepts connections on the event loop.

@unsafe @preconcurrency import Dispatch
import Locking
import Syscalls
import SystemPackage

/// What the owner of a listener should tell the operator.
package enum ListenerEvent: Sendable, Equatable {
  /// The system is out of something (EMFILE, ENFILE, ENOMEM, ENOBUFS) or the socket is broken: nothing is accepted for
  /// 200 ms, then it is tried again. Told once, until `resumed`.
  case paused(Errno)
  /// All that waited since `paused` has been accepted.
  case resumed
}

package final class Listener: Sendable {
  package typealias Accept = @Sendable (Int32) throws(Errno) -> (descriptor: Int32, peer: PeerAddress)

  package static let systemAccept: Accept = { (listener) throws(Errno) in try Sockets.accept(listener) }

  /// Accepts per event: other sources of the loop get their turn between.
  private static let acceptsPerEventMax = 16
  private static let pauseMilliseconds = 200

  private struct State {
    var source: (any DispatchSourceProtocol)?
    var isPaused = false
    var isInEpisode = false
    var isClosed = false
    var then: (@Sendable () -> Void)?
  }

  private let descriptor: Int32
  private let loop: EventLoop
  private let accept: Accept
  private let onAccept: @Sendable (consuming OwnedDescriptor, PeerAddress) -> Void
  private let onEvent: @Sendable (ListenerEvent) -> Void
  private let state = Locked(State())

  /// Accepts from `socket`, which listens already, and starts at once. Accepted sockets are blocking and closed on exec. Both
  /// closures run on the loop. `accept` is for tests. Throws when the socket cannot be made non-blocking.
  package init(
    _ socket: consuming OwnedDescriptor, loop: EventLoop,
    onAccept: @escaping @Sendable (consuming OwnedDescriptor, PeerAddress) -> Void,
    onEvent: @escaping @Sendable (ListenerEvent) -> Void,
    accept: @escaping Accept = Listener.systemAccept
  ) throws(Errno) {
    // Else an accept whose peer has given up meanwhile would block the loop.
    try Sockets.setNonblocking(socket.number, true)
    descriptor = socket.take()
    self.loop = loop
    self.accept = accept
    self.onAccept = onAccept
    self.onEvent = onEvent
    let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: loop.queue)
    source.setEventHandler { [self] in acceptSome() }
    source.setCancelHandler { [self] in finish() }
    state.withLock { $0.source = source }
    source.activate()
  }

  /// Accepts no more; closes the socket, then runs `then` on the loop. Once; any thread.
  package func close(then: @escaping @Sendable () -> Void = {}) {
    state.withLock { state in
      precondition(!state.isClosed, "a listener is closed once")
      state.isClosed = true
      state.then = then
      // Releasing a suspended source traps.
      if state.isPaused { state.source?.resume() }
      state.isPaused = false
      state.source?.cancel()
    }
  }

  // MARK: On the loop

  private func acceptSome() {
    for _ in 0..<Listener.acceptsPerEventMax {
      if state.withLock({ $0.isClosed || $0.isPaused }) { return }
      do throws(Errno) {
        let (connection, peer) = try accept(descriptor)
        onAccept(OwnedDescriptor(owning: connection), peer)
      } catch {
        switch error {
        case .wouldBlock: return endEpisode()
        // The connection was over before it was accepted: Linux passes its error on (accept(2)).
        case .interrupted, .notPermitted, .connectionAbort, .connectionReset, .timedOut, .protocolError,
          .protocolNotAvailable, .networkDown, .networkUnreachable, .hostIsDown, .noRouteToHost:
          continue
        default: return pause(error)
        }
      }
    }
  }

  private func pause(_ error: Errno) {
    let isNew = state.withLock { state in
      if state.isClosed { return false }
      state.isPaused = true
      state.source?.suspend()
      defer { state.isInEpisode = true }
      return !state.isInEpisode
    }
    if isNew { onEvent(.paused(error)) }
    loop.after(milliseconds: Listener.pauseMilliseconds) { [self] in
      state.withLock { state in
        if !state.isPaused { return }
        state.isPaused = false
        state.source?.resume()
      }
    }
  }

  private func endEpisode() {
    let wasInEpisode = state.withLock { state in
      defer { state.isInEpisode = false }
      return state.isInEpisode
    }
    if wasInEpisode { onEvent(.resumed) }
  }

  private func finish() {
    Sockets.close(descriptor)
    let (then, source) = state.withLock { state in
      defer {
        state.then = nil
        state.source = nil
      }
      return (state.then, state.source)
    }
    withExtendedLifetime(source) { then?() }
  }
}
