// When the last client has left, for servers that then end; and the client that such a server is handed.

import EventLoops
import Syscalls
import SystemPackage

/// Whether there was a client since the server was idle last.
struct Idleness {
  var hadClient = false
  var then: (@Sendable () -> Void)?

  /// A connection is gone; what is to be run now.
  mutating func left(_ connection: Connection, isLast: Bool) -> (@Sendable () -> Void)? {
    // Who only looked whether somebody listens was no client.
    if !connection.isNegotiating { hadClient = true }
    guard isLast, hadClient else { return nil }
    hadClient = false
    return then
  }
}

extension Server {
  /// Runs `body` on the loop whenever the last connection is gone, if one of those since the last time had chosen an export. Once,
  /// before the server listens.
  package func whenIdle(_ body: @escaping @Sendable () -> Void) { roster.withLock { $0.idleness.then = body } }

  /// Serves a stream socket that is connected already; it is a client even if it never chooses an export. Any thread.
  package func serve(connected socket: consuming OwnedDescriptor) throws(Errno) {
    let peer = try Sockets.peerAddress(socket.number)
    roster.withLock { $0.idleness.hadClient = true }
    let handed = Handoff(socket)
    loop.run { [self] in accept(handed.take(), peer, isPrepared: false) }
  }
}
