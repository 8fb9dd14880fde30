// Accepts connections: on the event loop, or on the thread that attends to its sockets.

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

package final class Listener: WatchedSocket {
  package typealias Accept = @Sendable (Int32) throws(Errno) -> (descriptor: Int32, peer: PeerAddress)

  package static let systemAccept: Accept = { (listener) throws(Errno) in try Sockets.accept(listener) }

  /// Accepts per event while an episode of shortage lasts; else one: what is left is reported again, behind others.
  private static let acceptsPerEventMax = 16
  private static let pauseMilliseconds = 200

  private struct State {
    var generation: UInt32?
    var isPaused = false
    var isInEpisode = false
    var isClosed = false
  }

  let descriptor: Int32
  private let loop: EventLoop
  private let accept: Accept
  private let onAccept: @Sendable (consuming OwnedDescriptor, PeerAddress) -> Void
  private let onEvent: @Sendable (ListenerEvent) -> Void
  private let state = Locked(State())

  /// Accepts from `socket`, which listens already, and starts at once. Accepted sockets are blocking and closed on exec. Both
  /// closures run on the loop or on the thread that attends to its sockets. `accept` is for tests. Throws when the socket
  /// cannot be made non-blocking or watched.
  package init(
    _ socket: consuming OwnedDescriptor, loop: EventLoop,
    onAccept: @escaping @Sendable (consuming OwnedDescriptor, PeerAddress) -> Void,
    onEvent: @escaping @Sendable (ListenerEvent) -> Void,
    accept: @escaping Accept = Listener.systemAccept
  ) throws(Errno) {
    // Else an accept whose peer has given up meanwhile would block the loop.
    try Sockets.setNonblocking(socket.number, true)
    descriptor = socket.number
    self.loop = loop
    self.accept = accept
    self.onAccept = onAccept
    self.onEvent = onEvent
    try state.withLock { (state) throws(Errno) in state.generation = try loop.sockets.add(self, .readable) }
    _ = socket.take()
  }

  /// Accepts no more and closes the socket, at once; then runs `then` on the loop. Once; any thread. Called elsewhere than
  /// where connections are accepted, one may still be on its way to `onAccept`.
  package func close(then: @escaping @Sendable () -> Void = {}) {
    state.withLock { state in
      precondition(!state.isClosed, "a listener is closed once")
      state.isClosed = true
      loop.sockets.remove(descriptor)
      Sockets.close(descriptor)
    }
    loop.run(then)
  }

  // MARK: On the loop, or on the thread that attends

  private enum Step {
    case accepted(descriptor: Int32, PeerAddress, goesOn: Bool)
    /// The connection was over before it was accepted: Linux passes its error on (accept(2)).
    case skipped
    case nothing
    case failed(Errno)
  }

  func happened(_ events: Epoll.Events, generation: UInt32) {
    for _ in 0..<Listener.acceptsPerEventMax {
      switch acceptOne(generation) {
      case .accepted(let connection, let peer, let goesOn):
        onAccept(OwnedDescriptor(owning: connection), peer)
        if !goesOn { return }
      case .skipped: continue
      case .nothing: return endEpisode()
      case .failed(let error): return pause(error)
      }
    }
  }

  /// With the lock held, so that nobody closes the descriptor meanwhile. It does not wait.
  private func acceptOne(_ generation: UInt32) -> Step {
    state.withLock { state in
      if state.isClosed || state.isPaused || state.generation != generation { return .nothing }
      do throws(Errno) {
        let (connection, peer) = try accept(descriptor)
        return .accepted(descriptor: connection, peer, goesOn: state.isInEpisode)
      } catch {
        switch error {
        case .wouldBlock: return .nothing
        case .interrupted, .notPermitted, .connectionAbort, .connectionReset, .timedOut, .protocolError,
          .protocolNotAvailable, .networkDown, .networkUnreachable, .hostIsDown, .noRouteToHost:
          return .skipped
        default: return .failed(error)
        }
      }
    }
  }

  private func pause(_ error: Errno) {
    let isNew = state.withLock { state in
      guard !state.isClosed, let generation = state.generation else { return false }
      state.isPaused = true
      loop.sockets.rearm(descriptor, generation: generation, .oneShot)
      defer { state.isInEpisode = true }
      return !state.isInEpisode
    }
    if isNew { onEvent(.paused(error)) }
    loop.after(milliseconds: Listener.pauseMilliseconds) { [self] in
      state.withLock { state in
        guard state.isPaused, !state.isClosed, let generation = state.generation else { return }
        state.isPaused = false
        loop.sockets.rearm(descriptor, generation: generation, .readable)
      }
    }
  }

  private func endEpisode() {
    let wasInEpisode = state.withLock { state in
      // A pause is not the end.
      if state.isPaused || state.isClosed { return false }
      defer { state.isInEpisode = false }
      return state.isInEpisode
    }
    if wasInEpisode { onEvent(.resumed) }
  }
}
