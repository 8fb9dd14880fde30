// Stream sockets: one function per system call. Sends never raise SIGPIPE; EINTR is retried here and nowhere else.

import CLinux
import Glibc
import SystemPackage

package enum Sockets {
  package struct Flags: OptionSet, Sendable {
    package let rawValue: Int32
    package init(rawValue: Int32) { self.rawValue = rawValue }

    /// Throws `.resourceTemporarilyUnavailable` rather than wait.
    package static let dontWait = Flags(rawValue: Int32(MSG_DONTWAIT))
    /// Leaves the bytes in the socket.
    package static let peek = Flags(rawValue: Int32(MSG_PEEK))
  }

  package enum Direction: Int32, Sendable {
    case reading = 0
    case writing = 1
    case both = 2
  }

  // MARK: Data

  /// Bytes received into the front of `bytes`; 0 is the end of the stream (or an empty span). Waits without `dontWait`; after
  /// SO_RCVTIMEO it throws `.resourceTemporarilyUnavailable`.
  @inline(__always)
  package static func recv(
    _ descriptor: Int32, into bytes: inout MutableRawSpan, flags: Flags = []
  ) throws(Errno) -> Int {
    try checked(
      unsafe bytes.withUnsafeMutableBytes {
        unsafe hf_recv(descriptor, $0.baseAddress, $0.count, flags.rawValue)
      })
  }

  /// Bytes sent, possibly fewer than given.
  @inline(__always)
  package static func send(_ descriptor: Int32, _ bytes: RawSpan, flags: Flags = []) throws(Errno) -> Int {
    try checked(
      unsafe bytes.withUnsafeBytes { unsafe hf_send(descriptor, $0.baseAddress, $0.count, flags.rawValue) })
  }

  /// sendmsg of `first` and `second` as one message; bytes sent, possibly fewer than given.
  @inline(__always)
  package static func send(
    _ descriptor: Int32, _ first: RawSpan, _ second: RawSpan, flags: Flags = []
  ) throws(Errno) -> Int {
    try checked(
      unsafe first.withUnsafeBytes { a in
        unsafe second.withUnsafeBytes { b in
          unsafe hf_send2(descriptor, a.baseAddress, a.count, b.baseAddress, b.count, flags.rawValue)
        }
      })
  }

  /// `sendfile(2)`: sends pages of a file without a copy, possibly fewer bytes than asked; 0 at the end of the file. What is
  /// changed in the file before the peer has received it changes what the peer receives. Waits for the peer unless the
  /// socket is non-blocking, and for the disk where the file is not cached.
  package static func sendfile(
    _ socket: Int32, from file: Int32, at offset: UInt64, length: UInt64
  ) throws(Errno) -> Int {
    guard let start = Int64(exactly: offset) else { throw .overflow }
    return Int(try checked(hf_sendfile(socket, file, start, Int(min(length, Files.transferBytesMax)))))
  }

  /// Ends one or both directions; a thread waiting in `recv` on this socket returns. Nothing happens when the peer has
  /// gone already.
  package static func shutdown(_ descriptor: Int32, _ direction: Direction) {
    _ = hf_shutdown(descriptor, direction.rawValue)
  }

  /// Whether the peer has closed both directions or reset the connection. Does not wait.
  package static func isHungUp(_ descriptor: Int32) -> Bool { hf_hung_up(descriptor) != 0 }

  /// Whether something can be received. Does not wait.
  package static func hasBytes(_ descriptor: Int32) -> Bool { hf_has_bytes(descriptor) != 0 }

  package static func close(_ descriptor: Int32) { _ = hf_close(descriptor) }

  /// What a socket can do without waiting.
  package struct Readiness: OptionSet, Sendable {
    package let rawValue: Int32
    package init(rawValue: Int32) { self.rawValue = rawValue }

    package static let receive = Readiness(rawValue: Int32(HF_CAN_RECEIVE))
    package static let send = Readiness(rawValue: Int32(HF_CAN_SEND))
  }

  /// `poll(2)`: waits until something of `wanted` is possible, or `milliseconds` have passed (empty). A hang-up or an error is
  /// both: the call that follows says which.
  package static func wait(_ descriptor: Int32, for wanted: Readiness, milliseconds: Int) throws(Errno) -> Readiness {
    Readiness(rawValue: Int32(try checked(hf_wait(descriptor, wanted.rawValue, Int32(milliseconds)))))
  }

  // MARK: Making

  package static func stream(for address: SocketAddress) throws(Errno) -> OwnedDescriptor {
    OwnedDescriptor(owning: try checked(hf_socket_stream(address.family)))
  }

  /// Two connected Unix stream sockets. (A tuple cannot hold noncopyable values.)
  package struct Pair: ~Copyable, Sendable {
    package let first: OwnedDescriptor
    package let second: OwnedDescriptor

    /// Both are the caller's to close now.
    package consuming func take() -> (first: Int32, second: Int32) { (first.take(), second.take()) }
  }

  package static func pair() throws(Errno) -> Pair {
    var a: Int32 = -1
    var b: Int32 = -1
    _ = try checked(unsafe hf_socket_pair(&a, &b))
    return Pair(first: OwnedDescriptor(owning: a), second: OwnedDescriptor(owning: b))
  }

  /// A blocking socket that is connected to `address`.
  package static func connect(to address: SocketAddress) throws(Errno) -> OwnedDescriptor {
    let socket = try stream(for: address)
    try connect(socket.number, to: address)
    return socket
  }

  /// To a Unix socket at `path`. When its listener's queue is full, because it hangs, a connect waits for ever; this one throws `.timedOut`.
  package static func connect(unix path: String, patienceMilliseconds: Int64) throws(Errno) -> OwnedDescriptor {
    let address = SocketAddress.unix(path: path)
    let socket = try stream(for: address)
    try setNonblocking(socket.number, true)
    let deadline = MonotonicClock.nanoseconds + patienceMilliseconds * 1_000_000
    while true {
      do throws(Errno) {
        try connect(socket.number, to: address)
        break
      } catch .resourceTemporarilyUnavailable {
        // Nothing tells when there is room: unix(7).
        guard MonotonicClock.nanoseconds < deadline else { throw .timedOut }
        usleep(10_000)
      }
    }
    try setNonblocking(socket.number, false)
    return socket
  }

  package static func connect(_ descriptor: Int32, to address: SocketAddress) throws(Errno) {
    var raw = try address.raw()
    _ = try checked(unsafe hf_connect(descriptor, &raw))
  }

  /// A TCP socket that listens on `address`. SO_REUSEADDR; an IPv6 socket takes no IPv4 (both can have the same port).
  /// `prepare` sets what accepted sockets shall inherit; they do when their connection is made, not when it is accepted.
  package static func listenTCP(
    _ address: SocketAddress, backlog: Int32 = 1024, prepare: (Int32) throws(Errno) -> Void = { _ in }
  ) throws(Errno) -> OwnedDescriptor {
    precondition(address.family != AF_UNIX, "Unix sockets listen through UnixSocketFile")
    let socket = try stream(for: address)
    _ = try checked(hf_set_int_option(socket.number, SOL_SOCKET, SO_REUSEADDR, 1))
    if address.family == AF_INET6 {
      _ = try checked(hf_set_int_option(socket.number, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1))
    }
    try bind(socket.number, to: address)
    try prepare(socket.number)
    try listen(socket.number, backlog: backlog)
    return socket
  }

  package static func bind(_ descriptor: Int32, to address: SocketAddress) throws(Errno) {
    var raw = try address.raw()
    _ = try checked(unsafe hf_bind(descriptor, &raw))
  }

  package static func listen(_ descriptor: Int32, backlog: Int32) throws(Errno) {
    _ = try checked(hf_listen(descriptor, backlog))
  }

  // MARK: Accepting and names

  /// accept4 with CLOEXEC: the new socket is blocking, and its descriptor is now the caller's to close. EINTR is thrown: the
  /// caller loops anyway.
  package static func accept(_ listener: Int32) throws(Errno) -> (descriptor: Int32, peer: PeerAddress) {
    var raw = hf_address()
    let descriptor = try checked(unsafe hf_accept(listener, &raw))
    // An unknown family cannot come from sockets of ours; one handed over by a supervisor may be anything.
    return (descriptor, peer(of: descriptor, SocketAddress(raw) ?? .unix(path: "")))
  }

  private static func peer(of descriptor: Int32, _ address: SocketAddress) -> PeerAddress {
    switch address {
    case .ipv4, .ipv6: return .network(address)
    case .unix:
      var credentials = hf_credentials()
      // Overflow uid and gid ("nobody") when the kernel will not say.
      if unsafe hf_peer_credentials(descriptor, &credentials) < 0 { return .unix(pid: 0, uid: 65534, gid: 65534) }
      return .unix(pid: credentials.pid, uid: credentials.uid, gid: credentials.gid)
    }
  }

  /// Nil for a family that is not ours.
  package static func localAddress(_ descriptor: Int32) throws(Errno) -> SocketAddress? {
    var raw = hf_address()
    _ = try checked(unsafe hf_getsockname(descriptor, &raw))
    return SocketAddress(raw)
  }

  /// Who is connected to this socket; throws `.socketNotConnected` when nobody is.
  package static func peerAddress(_ descriptor: Int32) throws(Errno) -> PeerAddress {
    var raw = hf_address()
    _ = try checked(unsafe hf_getpeername(descriptor, &raw))
    return peer(of: descriptor, SocketAddress(raw) ?? .unix(path: ""))
  }
}
