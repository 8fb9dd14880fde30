// Stream sockets as the kernel shows them.

import Glibc
import Locking
import Syscalls
import SystemPackage
import Testing

@Suite struct SocketTests {
  @Test(arguments: [
    ("127.0.0.1", "127.0.0.1:4711", true),
    ("192.0.2.7", "192.0.2.7:4711", false),
    ("::1", "[::1]:4711", true),
    ("::", "[::]:4711", false),
    ("2001:db8:0:0:1:0:0:1", "[2001:db8::1:0:0:1]:4711", false),
    ("fe80::1:2", "[fe80::1:2]:4711", false),
    ("1:0:2:3:4:5:6:7", "[1:0:2:3:4:5:6:7]:4711", false),
    ("::ffff:127.0.0.1", "127.0.0.1:4711", true),
  ])
  func addressesHaveTheirUsualText(host: String, text: String, isLocal: Bool) throws {
    let address = try #require(try SocketAddress.resolve(host: host, port: 4711).first)
    #expect(address.description == text)
    #expect(address.isLocal == isLocal)
  }

  @Test func aHostWithoutAddressIsRefused() {
    #expect(throws: Errno.noRouteToHost) { try SocketAddress.resolve(host: "not an address", port: 1) }
  }

  @Test func aUnixPathThatDoesNotFitIsRefused() throws {
    let socket = try Sockets.stream(for: .unix(path: "x"))
    let long = "/" + String(repeating: "x", count: SocketAddress.unixPathBytesMax)
    #expect(throws: Errno.fileNameTooLong) { try Sockets.connect(socket.number, to: .unix(path: long)) }
    #expect(throws: Errno.invalidArgument) { try Sockets.connect(socket.number, to: .unix(path: "")) }
    #expect(throws: Errno.noSuchFileOrDirectory) {
      try Sockets.connect(socket.number, to: .unix(path: String(long.dropLast())))
    }
  }

  @Test(arguments: ["127.0.0.1", "::1"])
  func acceptedSocketsAreBlockingAndClosedOnExec(host: String) throws {
    let listener = try Sockets.listenTCP(try #require(SocketAddress.resolve(host: host, port: 0).first))
    try Sockets.setNonblocking(listener.number, true)
    #expect(throws: Errno.wouldBlock) { try Sockets.accept(listener.number) }
    #expect(try Sockets.isListeningStream(listener.number))
    let client = try Sockets.connect(to: try #require(try Sockets.localAddress(listener.number)))
    let (descriptor, peer) = try Sockets.accept(listener.number)
    let server = OwnedDescriptor(owning: descriptor)
    #expect(fcntl(server.number, F_GETFL) & O_NONBLOCK == 0)
    #expect(fcntl(server.number, F_GETFD) & FD_CLOEXEC == FD_CLOEXEC)
    let name = try #require(try Sockets.localAddress(client.number))
    #expect(peer == .network(name))
    #expect(peer.description == (host == "::1" ? "[::1]" : host) + ":\(try #require(name.port))")
    #expect(try Sockets.isListeningStream(server.number) == false)
  }

  @Test func aUnixPeerIsNamedByItsProcess() throws {
    let pair = try Sockets.pair()
    let peer = try Sockets.peerAddress(pair.first.number)
    #expect(peer.description == "unix pid \(getpid()) uid \(getuid())")
    #expect(peer.isUnix)
  }

  @Test func twoSpansAreSentAsOneMessageInOrder() throws {
    let pair = try Sockets.pair()
    #expect(try sent(pair.first.number, [1, 2, 3], [4, 5]) == 5)
    #expect(try received(pair.second.number) == [1, 2, 3, 4, 5])
  }

  @Test func receivingWithoutWaitingSaysThatNothingIsThere() throws {
    let pair = try Sockets.pair()
    #expect(throws: Errno.wouldBlock) { try received(pair.first.number, flags: .dontWait) }
  }

  @Test func theReceiveTimeoutEndsAWait() throws {
    let pair = try Sockets.pair()
    try Sockets.setReceiveTimeout(pair.first.number, milliseconds: 5)
    #expect(throws: Errno.wouldBlock) { try received(pair.first.number) }
  }

  @Test func sendingToAPeerThatIsGoneIsAnErrorNotASignal() async {
    await #expect(processExitsWith: .success) {
      let pair = try Sockets.pair()
      Sockets.shutdown(pair.first.number, .both)
      #expect(throws: Errno.brokenPipe) { try sent(pair.first.number, [1]) }
      #expect(throws: Errno.brokenPipe) { try sent(pair.first.number, [1], [2]) }
    }
  }

  @Test func shutdownWakesAThreadThatReceives() throws {
    let pair = try Sockets.pair()
    let number = pair.first.number
    let result = Locked<[UInt8]?>(nil)
    let done = Done()
    try PosixThread.spawn(name: "receiver") {
      let bytes = try? received(number)
      result.withLock { $0 = bytes }
      done.signal()
    }
    Sockets.shutdown(number, .both)
    #expect(done.wait())
    #expect(result.withLock { $0 } == [])
  }

  @Test func hangUpIsToldFromHalfClose() throws {
    let pair = try Sockets.pair()
    #expect(!Sockets.isHungUp(pair.first.number))
    Sockets.shutdown(pair.second.number, .writing)
    #expect(!Sockets.isHungUp(pair.first.number))
    Sockets.shutdown(pair.second.number, .reading)
    #expect(Sockets.isHungUp(pair.first.number))
  }

  @Test func tcpOptionsAreSet() throws {
    let socket = try Sockets.stream(for: try #require(SocketAddress.resolve(host: "127.0.0.1", port: 0).first))
    try Sockets.setNoDelay(socket.number)
    try Sockets.setKeepalive(socket.number, idleSeconds: 30, intervalSeconds: 10, userTimeoutSeconds: 60)
    let tcp = Int32(IPPROTO_TCP)
    #expect(try Sockets.option(socket.number, tcp, TCP_NODELAY) == 1)
    #expect(try Sockets.option(socket.number, SOL_SOCKET, SO_KEEPALIVE) == 1)
    #expect(try Sockets.option(socket.number, tcp, TCP_KEEPIDLE) == 30)
    #expect(try Sockets.option(socket.number, tcp, TCP_KEEPINTVL) == 10)
    #expect(try Sockets.option(socket.number, tcp, TCP_USER_TIMEOUT) == 60_000)
  }

  /// What the server sets once, on its listener.
  @Test(arguments: ["127.0.0.1", "::1"])
  func acceptedTCPSocketsInheritTheOptionsOfTheirListener(host: String) throws {
    let listener = try Sockets.listenTCP(try #require(try SocketAddress.resolve(host: host, port: 0).first))
    try Sockets.setNoDelay(listener.number)
    try Sockets.setKeepalive(listener.number, idleSeconds: 30, intervalSeconds: 10, userTimeoutSeconds: 60)
    try Sockets.setReceiveTimeout(listener.number, milliseconds: 20)
    let client = try Sockets.connect(to: try #require(try Sockets.localAddress(listener.number)))
    let socket = OwnedDescriptor(owning: try Sockets.accept(listener.number).descriptor)
    let tcp = Int32(IPPROTO_TCP)
    #expect(try Sockets.option(socket.number, tcp, TCP_NODELAY) == 1)
    #expect(try Sockets.option(socket.number, SOL_SOCKET, SO_KEEPALIVE) == 1)
    #expect(try Sockets.option(socket.number, tcp, TCP_KEEPIDLE) == 30)
    #expect(try Sockets.option(socket.number, tcp, TCP_KEEPINTVL) == 10)
    #expect(try Sockets.option(socket.number, tcp, TCP_USER_TIMEOUT) == 60_000)
    // Would wait for ever.
    #expect(throws: Errno.resourceTemporarilyUnavailable) { try received(socket.number) }
    withExtendedLifetime(client.number) {}
  }

  /// Nobody accepts, and the queue is full.
  @Test func connectingToAListenerThatHangsEnds() throws {
    let path = "/tmp/holdfast-\(getpid())-\(UInt64.random(in: 0 ... .max)).sock"
    let address = SocketAddress.unix(path: path)
    let listener = try Sockets.stream(for: address)
    try Sockets.bind(listener.number, to: address)
    defer { unsafe unlink(path) }
    try Sockets.listen(listener.number, backlog: 1)
    func connect() throws(Errno) -> Int32 {
      try Sockets.connect(unix: path, patienceMilliseconds: 50).take()
    }
    var connected: [Int32] = []
    defer { for each in connected { close(each) } }
    #expect(throws: Errno.timedOut) { for _ in 0..<8 { connected.append(try connect()) } }
    #expect(!connected.isEmpty && connected.count < 8)
    let accepted = OwnedDescriptor(owning: try Sockets.accept(listener.number).descriptor)
    connected.append(try connect())
    // It blocks again, as who asked expects.
    let flags = fcntl(try #require(connected.last), F_GETFL)
    #expect(flags & O_NONBLOCK == 0)
    withExtendedLifetime(accepted.number) {}
  }

  @Test func theSendBufferIsWhatTheKernelGives() throws {
    let pair = try Sockets.pair()
    func size() throws -> Int32 { try Sockets.option(pair.first.number, SOL_SOCKET, SO_SNDBUF) }
    try Sockets.setSendBuffer(pair.first.number, bytes: 4096)
    let before = try size()
    try Sockets.setSendBuffer(pair.first.number, bytes: 1 << 20)
    let after = try size()
    #expect(after > before)
    // Far beyond any limit: no error, just less.
    try Sockets.setSendBuffer(pair.first.number, bytes: 1 << 29)
    #expect(try size() >= after)
  }

  @Test func aDroppedDescriptorIsClosedAndATakenOneIsNot() throws {
    let ends = try Sockets.pair().take()
    do {
      let dropped = OwnedDescriptor(owning: ends.second)
      #expect(throws: Errno.wouldBlock) { try received(ends.first, flags: .dontWait) }
      #expect(dropped.number == ends.second)
    }
    #expect(try received(ends.first) == [])
    Sockets.close(ends.first)
  }
}

/// At most 64 bytes.
func received(_ descriptor: Int32, flags: Sockets.Flags = []) throws(Errno) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 64)
  var span = bytes.mutableSpan
  var raw = unsafe span.mutableBytes
  let count = try Sockets.recv(descriptor, into: &raw, flags: flags)
  return Array(bytes.prefix(count))
}

func sent(_ descriptor: Int32, _ bytes: [UInt8]) throws(Errno) -> Int {
  try Sockets.send(descriptor, unsafe bytes.span.bytes)
}

func sent(_ descriptor: Int32, _ first: [UInt8], _ second: [UInt8]) throws(Errno) -> Int {
  try Sockets.send(descriptor, unsafe first.span.bytes, unsafe second.span.bytes)
}
