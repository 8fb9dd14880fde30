// Sockets that listened before the server began.

import BlockBackend
import Glibc
import HoldfastServer
import NBDClient
import Syscalls
import TestBackends
import Testing

@Suite struct InheritedSocketTests {
  /// Linux gives a connection the options of its listener when it is made. Who connected before the server set any has none of
  /// them: a worker would wait for such a client for ever.
  @Test func clientsThatWereEarlyGetTheOptionsToo() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let listening = try Sockets.listenTCP(.ipv4(bytes: [127, 0, 0, 1], port: 0))
    let port = try #require(try Sockets.localAddress(listening.number)?.port)
    let early = RawClient(try RawSocket(loopback: port))
    try server.server.listen(inherited: listening)
    try early.enter(export: "", structured: true)
    #expect(try early.read(0, 4096).isSuccess)
    let late = RawClient(try RawSocket(loopback: port))
    try late.enter(export: "", structured: true)
    let accepted = acceptedSockets(port)
    #expect(accepted.count == 2)
    for socket in accepted {
      #expect(try Sockets.option(socket, Int32(IPPROTO_TCP), TCP_NODELAY) != 0)
      #expect(try Sockets.option(socket, SOL_SOCKET, SO_KEEPALIVE) != 0)
    }
    server.stop()
    withExtendedLifetime((early, late)) {}
  }

  /// Ends of connections in this process whose own port is `port`.
  private func acceptedSockets(_ port: UInt16) -> [Int32] {
    (3..<4096).filter { descriptor in
      (try? Sockets.localAddress(descriptor)?.port) == port && (try? Sockets.peerAddress(descriptor)) != nil
    }
  }
}
