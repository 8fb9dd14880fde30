// Sockets that a service manager opened before us: they take the place of our own (systemd.socket(5)).

import HoldfastServer
import Syscalls
import SystemPackage

extension ServePlan {
  /// Checks what was inherited, and takes out of the plan what it would open as well.
  /// - Returns: their addresses, in the same order.
  /// - Throws: what is wrong with a socket, and what to write in its unit.
  mutating func adopt(_ sockets: [InheritedSocket]) throws(CommandFailure) -> [SocketAddress] {
    guard !sockets.isEmpty else { return [] }
    if listenersOrigin == .arguments {
      throw CommandFailure(
        .usage,
        "the service manager has opened \(sockets.count == 1 ? "a socket" : "\(sockets.count) sockets") for us; "
          + "take --unix and --tcp away, or start without it")
    }
    var addresses: [SocketAddress] = []
    for socket in sockets { addresses.append(try address(of: socket)) }
    listeners.removeAll { addresses.contains($0) }
    return addresses
  }

  private func address(of socket: InheritedSocket) throws(CommandFailure) -> SocketAddress {
    let which = "descriptor \(socket.descriptor)" + (socket.name.map { " (\"\($0)\")" } ?? "")
    let isListening: Bool
    let found: SocketAddress?
    do throws(Errno) {
      try Sockets.setCloseOnExec(socket.descriptor)
      isListening = try Sockets.isListeningStream(socket.descriptor)
      found = try Sockets.localAddress(socket.descriptor)
    } catch {
      throw CommandFailure(
        .usage,
        "\(which) of the service manager cannot be used: \(reason(error)); look at LISTEN_FDS and the socket unit")
    }
    // Clients cannot be told of a socket in the abstract namespace: NBD URIs have paths.
    guard isListening, let address = found, address != .unix(path: "") else {
      throw CommandFailure(
        .usage,
        "\(which) of the service manager is no TCP or Unix stream socket with a path that listens; use ListenStream= and Accept=no"
      )
    }
    if !address.isLocal && !allowsPlaintext {
      throw CommandFailure(
        .configuration,
        "\(which) listens on \(address), which other machines can reach, and nothing encrypts the connection; "
          + "listen on 127.0.0.1, or say \(plaintextPermission)")
    }
    return address
  }
}
