// A blocking stream socket that sends exactly the bytes it is given. Every wait ends: a socket that is silent for
// `timeoutSeconds` throws, so that a test fails instead of hanging.

import Glibc

/// What a raw client can run into.
package enum ClientError: Error, CustomStringConvertible {
  /// The server closed the connection (`reset` when by RST) after `got` of the bytes asked for.
  case ended(got: Int, wanted: Int, reset: Bool)
  case timedOut(String)
  /// The server broke a rule of the specification.
  case ruleBroken(String)
  case system(String, Int32)

  package var description: String {
    switch self {
    case .ended(let got, let wanted, let reset):
      "the server \(reset ? "reset" : "closed") the connection after \(got) of \(wanted) bytes"
    case .timedOut(let what): "timed out: \(what)"
    case .ruleBroken(let rule): "the server broke a rule: \(rule)"
    case .system(let call, let code): "\(call): \(String(cString: strerror(code)))"
    }
  }

  /// The connection is over, by whatever sign.
  package var isEnd: Bool { if case .ended = self { true } else { false } }
}

/// One thread may send while another receives; nothing else is shared between them.
package final class RawSocket: @unchecked Sendable {
  package let descriptor: Int32
  private var isOpen = true
  // Received and not yet asked for, [readAt..<filledTo].
  private var buffer = [UInt8](repeating: 0, count: 256 << 10)
  private var readAt = 0
  private var filledTo = 0
  package private(set) var receivedBytes: UInt64 = 0

  /// Takes over a connected blocking descriptor.
  package init(descriptor: Int32, timeoutSeconds: Int = 30) {
    self.descriptor = descriptor
    setTimeout(seconds: timeoutSeconds)
  }

  /// Connects to a Unix socket.
  package convenience init(unix path: String, timeoutSeconds: Int = 30) throws {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < 108 else { throw ClientError.system("socket path longer than 107 bytes", ENAMETOOLONG) }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw ClientError.system("socket", errno) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else {
      let code = errno
      Glibc.close(descriptor)
      throw ClientError.system("connect \(path)", code)
    }
    self.init(descriptor: descriptor, timeoutSeconds: timeoutSeconds)
  }

  /// Connects to `port` of 127.0.0.1, or of ::1.
  package convenience init(loopback port: UInt16, v6: Bool = false, timeoutSeconds: Int = 30) throws {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    let descriptor = Glibc.socket(v6 ? AF_INET6 : AF_INET, type, 0)
    guard descriptor >= 0 else { throw ClientError.system("socket", errno) }
    let result: Int32
    if v6 {
      var address = sockaddr_in6()
      address.sin6_family = sa_family_t(AF_INET6)
      address.sin6_port = port.bigEndian
      address.sin6_addr = in6addr_loopback
      result = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
        }
      }
    } else {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      result = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }
    guard result == 0 else {
      let code = errno
      Glibc.close(descriptor)
      throw ClientError.system("connect to port \(port)", code)
    }
    var one: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    self.init(descriptor: descriptor, timeoutSeconds: timeoutSeconds)
  }

  deinit { close() }

  package func close() {
    guard isOpen else { return }
    isOpen = false
    Glibc.close(descriptor)
  }

  /// Closes with RST instead of FIN on TCP.
  package func reset() {
    var hard = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &hard, socklen_t(MemoryLayout<linger>.size))
    close()
  }

  /// Sends FIN; what the server has to say can still be received.
  package func shutdownWrite() { Glibc.shutdown(descriptor, Int32(SHUT_WR)) }

  package func setTimeout(seconds: Int) {
    var time = timeval(tv_sec: seconds, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
  }

  /// Sends all of `bytes`, or throws.
  package func send(_ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { try send(raw: $0) }
  }

  package func send(raw bytes: UnsafeRawBufferPointer) throws {
    var sent = 0
    while sent < bytes.count {
      let count = Glibc.send(descriptor, bytes.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
      if count >= 0 {
        sent += count
        continue
      }
      switch errno {
      case EINTR: continue
      case EAGAIN: throw ClientError.timedOut("send stood still after \(sent) of \(bytes.count) bytes")
      case EPIPE: throw ClientError.ended(got: sent, wanted: bytes.count, reset: false)
      case ECONNRESET: throw ClientError.ended(got: sent, wanted: bytes.count, reset: true)
      default: throw ClientError.system("send", errno)
      }
    }
  }

  /// Sends what the socket takes at once and returns how much that was.
  package func sendWithoutWaiting(_ bytes: [UInt8]) throws -> Int {
    let count = bytes.withUnsafeBytes {
      Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
    }
    if count >= 0 { return count }
    switch errno {
    case EAGAIN, EINTR: return 0
    case EPIPE: throw ClientError.ended(got: 0, wanted: bytes.count, reset: false)
    case ECONNRESET: throw ClientError.ended(got: 0, wanted: bytes.count, reset: true)
    default: throw ClientError.system("send", errno)
    }
  }

  /// Receives exactly `count` bytes.
  package func receive(_ count: Int) throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: count) { target, filled in
      filled = 0
      try receive(into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(target)[0..<count]))
      filled = count
    }
  }

  /// Fills `target` with the next bytes.
  package func receive(into target: UnsafeMutableRawBufferPointer) throws {
    var got = 0
    while got < target.count {
      if readAt < filledTo {
        let count = min(target.count - got, filledTo - readAt)
        _ = buffer.withUnsafeBytes { memcpy(target.baseAddress! + got, $0.baseAddress! + readAt, count) }
        readAt += count
        got += count
        continue
      }
      // A large remainder goes straight to where it belongs; a small one through the buffer.
      let remaining = target.count - got
      if remaining >= buffer.count {
        let count = try receiveSome(target.baseAddress! + got, remaining)
        if count == 0 { throw ClientError.ended(got: got, wanted: target.count, reset: false) }
        got += count
      } else {
        let count = try buffer.withUnsafeMutableBytes { try receiveSome($0.baseAddress!, $0.count) }
        if count == 0 { throw ClientError.ended(got: got, wanted: target.count, reset: false) }
        readAt = 0
        filledTo = count
      }
    }
  }

  /// Receives until the server ends the connection; returns what came before.
  package func receiveUntilEnd(limitBytes: Int = 256 << 20) throws -> [UInt8] {
    var bytes = [UInt8](buffer[readAt..<filledTo])
    readAt = filledTo
    while bytes.count < limitBytes {
      do {
        let count = try buffer.withUnsafeMutableBytes { try receiveSome($0.baseAddress!, $0.count) }
        if count == 0 { return bytes }
        bytes += buffer[0..<count]
      } catch let error as ClientError where error.isEnd {
        return bytes
      }
    }
    throw ClientError.timedOut("the server sent more than \(limitBytes) bytes instead of closing")
  }

  /// True when the server has ended the connection and nothing is left to receive; does not wait.
  package func hasEnded() -> Bool {
    if readAt < filledTo { return false }
    var byte: UInt8 = 0
    let count = recv(descriptor, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT))
    return count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)
  }

  /// Bytes can be received within `milliseconds`.
  package func isReadable(withinMilliseconds milliseconds: Int32) -> Bool {
    if readAt < filledTo { return true }
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, milliseconds) > 0
  }

  /// Bytes that have come and were not received yet, those of the buffer left out.
  package var queuedBytes: Int {
    var count: Int32 = 0
    return ioctl(descriptor, UInt(FIONREAD), &count) == 0 ? Int(count) : 0
  }

  private func receiveSome(_ target: UnsafeMutableRawPointer, _ limit: Int) throws -> Int {
    while true {
      let count = recv(descriptor, target, limit, 0)
      if count >= 0 {
        receivedBytes += UInt64(count)
        return count
      }
      switch errno {
      case EINTR: continue
      case EAGAIN: throw ClientError.timedOut("nothing received")
      case ECONNRESET: throw ClientError.ended(got: 0, wanted: limit, reset: true)
      default: throw ClientError.system("recv", errno)
      }
    }
  }
}
