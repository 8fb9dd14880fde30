// A server that answers without touching a file: what is left is the cost of the load generator and of the sockets. It reads
// zeroes, forgets writes, and checks nothing.

import Glibc
import Syscalls
import SystemPackage

enum NullServer {
  /// Listens on a Unix socket at `path`, or on a TCP port of 127.0.0.1, until the process is killed.
  static func serve(unix path: String?, port: UInt16?, sizeBytes: UInt64) throws {
    signal(SIGPIPE, SIG_IGN)
    let listener: OwnedDescriptor
    if let port {
      listener = try Sockets.listenTCP(.ipv4(bytes: [127, 0, 0, 1], port: port))
    } else if let path {
      let address = SocketAddress.unix(path: path)
      unlink(path)
      listener = try Sockets.stream(for: address)
      try Sockets.bind(listener.number, to: address)
      try Sockets.listen(listener.number, backlog: 1024)
    } else {
      throw BenchError("the null server needs --unix or --tcp-port")
    }
    while true {
      guard let (descriptor, peer) = try? Sockets.accept(listener.number) else { continue }
      if case .network = peer { try? Sockets.setNoDelay(descriptor) }
      try PosixThread.spawn(name: "null") {
        try? converse(descriptor, sizeBytes: sizeBytes)
        close(descriptor)
      }
    }
  }

  private static func converse(_ descriptor: Int32, sizeBytes: UInt64) throws {
    if try !negotiate(descriptor, sizeBytes: sizeBytes) { return }
    let inboxBytes = 1 << 20
    let inbox = UnsafeMutableRawPointer.allocate(byteCount: inboxBytes, alignment: 4096)
    var replies = NullReplies(capacity: inboxBytes / Wire.requestBytes + 1)
    defer { inbox.deallocate() }
    var unparsed = 0
    var payloadToSkip = 0
    while true {
      let received = recv(descriptor, inbox + unparsed, inboxBytes - unparsed, 0)
      guard received > 0 else { return }
      let total = unparsed + received
      var at = 0
      while true {
        let skipped = min(payloadToSkip, total - at)
        at += skipped
        payloadToSkip -= skipped
        guard payloadToSkip == 0, total - at >= Wire.requestBytes else { break }
        let request = UnsafeRawPointer(inbox + at)
        at += Wire.requestBytes
        let length = Int(request.number(at: 24, as: UInt32.self))
        switch Command(rawValue: request.number(at: 6)) {
        case .disconnect: return
        case .write: payloadToSkip = length
        case .read, .flush, .trim, .writeZeroes, .blockStatus, nil: break
        }
        let isRead = request.number(at: 6, as: UInt16.self) == Command.read.rawValue
        replies.append(cookie: request.number(at: 8), dataBytes: isRead ? length : 0)
      }
      unparsed = total - at
      if unparsed > 0, at > 0 { memmove(inbox, inbox + at, unparsed) }
      guard replies.send(descriptor) else { return }
    }
  }

  /// Whether the transmission may begin.
  private static func negotiate(_ descriptor: Int32, sizeBytes: UInt64) throws -> Bool {
    var out: [UInt8] = []
    out.append(number: Wire.greetingMagic)
    out.append(number: Wire.optionMagic)
    out.append(number: UInt16(Wire.fixedNewstyle | Wire.noZeroes))
    try sendAll(descriptor, out)
    _ = try receiveExactly(descriptor, 4)
    while true {
      let header = try receiveExactly(descriptor, 16)
      let option: UInt32 = header.number(at: 8)
      let length: UInt32 = header.number(at: 12)
      guard length <= 4096 else { return false }
      _ = try receiveExactly(descriptor, Int(length))
      out = []
      if option == Wire.optionGo {
        var info: [UInt8] = [0, 0]
        info.append(number: sizeBytes)
        // HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, CAN_MULTI_CONN.
        info.append(number: 0b1_0110_1101 as UInt16)
        appendReply(option, Wire.replyInfo, info, to: &out)
        appendReply(option, Wire.replyAck, [], to: &out)
        try sendAll(descriptor, out)
        return true
      }
      appendReply(option, Wire.replyIsError | 1, [], to: &out)
      try sendAll(descriptor, out)
    }
  }

  private static func appendReply(_ option: UInt32, _ type: UInt32, _ data: [UInt8], to out: inout [UInt8]) {
    out.append(number: Wire.optionReplyMagic)
    out.append(number: option)
    out.append(number: type)
    out.append(number: UInt32(data.count))
    out += data
  }
}

/// Simple replies of a batch and where their data, all the same zeroes, stands between them.
private struct NullReplies: ~Copyable {
  private static let zeroBytes = 1 << 20
  private let headers: UnsafeMutableRawPointer
  /// Made for the first read: a connection that only comes and goes is cheap.
  private var zeroes: UnsafeMutableRawPointer?
  private var pieces: [iovec] = []
  private var count = 0

  init(capacity: Int) {
    headers = .allocate(byteCount: capacity * Wire.simpleReplyBytes, alignment: 8)
  }

  deinit {
    headers.deallocate()
    free(zeroes)
  }

  mutating func append(cookie: UInt64, dataBytes: Int) {
    let header = headers + count * Wire.simpleReplyBytes
    count += 1
    header.put(Wire.simpleReplyMagic, at: 0)
    header.put(UInt32(0), at: 4)
    header.put(cookie, at: 8)
    if let last = pieces.last, let base = last.iov_base, base + last.iov_len == header {
      pieces[pieces.count - 1].iov_len += Wire.simpleReplyBytes
    } else {
      pieces.append(iovec(iov_base: header, iov_len: Wire.simpleReplyBytes))
    }
    if dataBytes > 0, zeroes == nil { zeroes = calloc(Self.zeroBytes, 1) }
    var left = dataBytes
    while left > 0 {
      let piece = min(left, Self.zeroBytes)
      pieces.append(iovec(iov_base: zeroes, iov_len: piece))
      left -= piece
    }
  }

  /// False when the client has gone.
  mutating func send(_ descriptor: Int32) -> Bool {
    var first = 0
    while first < pieces.count {
      let end = min(pieces.count, first + 1024)
      var sent = pieces[first..<end].withUnsafeMutableBufferPointer { buffer in
        var message = msghdr()
        message.msg_iov = buffer.baseAddress
        message.msg_iovlen = buffer.count
        return sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
      }
      if sent < 0, errno == EINTR { continue }
      guard sent > 0 else { return false }
      while sent > 0 {
        let length = pieces[first].iov_len
        if sent < length {
          pieces[first].iov_base += sent
          pieces[first].iov_len -= sent
          break
        }
        sent -= length
        first += 1
      }
    }
    pieces.removeAll(keepingCapacity: true)
    count = 0
    return true
  }
}
