// Requests out, replies in. A reply is collected chunk by chunk and judged by `PendingReply`; chunks of different replies may
// interleave and replies may come in any order, as the specification allows.

import Glibc

/// One complete reply.
package struct Reply {
  package var cookie: UInt64
  package var error: UInt32 = 0
  package var errorText = ""
  package var errorOffset: UInt64?
  /// What a READ returned, holes filled with zeroes; empty after an error.
  package var data: [UInt8] = []
  /// Holes of a READ, relative to the export.
  package var holes: [Range<UInt64>] = []
  /// Block status by context name.
  package var extents: [String: [Extent]] = [:]
  package var chunkCount = 0
  package var isStructured = false

  package var isSuccess: Bool { error == 0 }
}

package struct Extent: Equatable {
  package var lengthBytes: UInt32
  package var status: UInt32

  package init(lengthBytes: UInt32, status: UInt32) {
    self.lengthBytes = lengthBytes
    self.status = status
  }
}

extension RawClient {
  /// Sends a request and remembers what its reply must look like. Returns its cookie.
  @discardableResult
  package func submit(
    _ type: UInt16, flags: UInt16 = 0, offset: UInt64 = 0, length: UInt32 = 0, payload: [UInt8]? = nil,
    cookie: UInt64? = nil
  ) throws -> UInt64 {
    let cookie = cookie ?? nextCookie
    nextCookie &+= 0x1_0000_0001
    expect(type, flags: flags, cookie: cookie, offset: offset, length: length)
    try socket.send(requestBytes(type, flags: flags, cookie: cookie, offset: offset, length: length) + (payload ?? []))
    return cookie
  }

  /// Remembers a request that the test sends in a way of its own.
  package func expect(_ type: UInt16, flags: UInt16 = 0, cookie: UInt64, offset: UInt64, length: UInt32) {
    pending[cookie] = PendingReply(type: type, flags: flags, cookie: cookie, offset: offset, length: length)
  }

  package var repliesOutstanding: Int { pending.count }

  /// Receives until some reply is complete.
  package func receiveReply() throws -> Reply {
    while true {
      let magic = WireReader(try socket.receive(4)).peek(UInt32.self)
      switch magic {
      case Magic.simpleReply: return try receiveSimple()
      case Magic.structuredReply: if let reply = try receiveChunk() { return reply }
      default: throw ClientError.ruleBroken("a reply begins with a reply magic: \(String(magic, radix: 16))")
      }
    }
  }

  /// One request and its reply; nothing else may be outstanding.
  package func call(
    _ type: UInt16, flags: UInt16 = 0, offset: UInt64 = 0, length: UInt32 = 0, payload: [UInt8]? = nil
  ) throws -> Reply {
    let cookie = try submit(type, flags: flags, offset: offset, length: length, payload: payload)
    let reply = try receiveReply()
    try demand(reply.cookie == cookie, "the reply answers the only request")
    return reply
  }

  package func read(_ offset: UInt64, _ length: UInt32, flags: UInt16 = 0) throws -> Reply {
    try call(Cmd.read, flags: flags, offset: offset, length: length)
  }

  package func write(_ offset: UInt64, _ bytes: [UInt8], flags: UInt16 = 0) throws -> Reply {
    try call(Cmd.write, flags: flags, offset: offset, length: UInt32(bytes.count), payload: bytes)
  }

  /// DISC, then the server's close; throws when replies are missing or bytes are left over.
  package func disconnect() throws {
    try socket.send(requestBytes(Cmd.disconnect, cookie: 0, offset: 0, length: 0))
    try demand(try socket.receiveUntilEnd().isEmpty, "nothing follows DISC but the close")
  }

  private func receiveSimple() throws -> Reply {
    var header = WireReader(try socket.receive(12))
    let error = header.number(UInt32.self)
    let cookie = header.number(UInt64.self)
    guard let request = pending.removeValue(forKey: cookie) else {
      throw ClientError.ruleBroken("a reply answers a request: cookie \(cookie)")
    }
    try demand(request.chunkCount == 0, "a simple reply does not follow chunks")
    try demand(!(isStructured && request.type == Cmd.read), "READ gets structured replies once negotiated")
    try demand(!(isStructured && request.type == Cmd.blockStatus && error == 0), "BLOCK_STATUS gets a structured reply")
    var reply = Reply(cookie: cookie, error: error)
    try judge(error, of: request)
    if request.type == Cmd.read && error == 0 { reply.data = try socket.receive(Int(request.length)) }
    return reply
  }

  private func receiveChunk() throws -> Reply? {
    try demand(isStructured, "structured replies only after negotiation")
    var header = WireReader(try socket.receive(16))
    let flags = header.number(UInt16.self)
    let type = header.number(UInt16.self)
    let cookie = header.number(UInt64.self)
    let length = header.number(UInt32.self)
    try demand(flags & ~1 == 0, "no chunk flag but DONE: \(flags)")
    guard var request = pending.removeValue(forKey: cookie) else {
      throw ClientError.ruleBroken("a chunk answers a request: cookie \(cookie)")
    }
    try demand(length <= request.chunkBytesMax, "a chunk of \(length) bytes is too long for its request")
    try request.add(type: type, length: Int(length), client: self)
    guard flags & 1 != 0 else {
      try demand(type != ChunkType.none, "NONE carries DONE")
      pending[cookie] = request
      return nil
    }
    let reply = try request.finish(client: self)
    try judge(reply.error, of: request)
    return reply
  }

  private func judge(_ error: UInt32, of request: PendingReply) throws {
    guard error != 0 else { return }
    try demand(NBDErrno.defined.contains(error), "error \(error) is one the specification defines")
    if error == NBDErrno.notSupported {
      try demand(request.flags & CmdFlag.fastZero != 0, "ENOTSUP only for FAST_ZERO")
    }
    if error == NBDErrno.overflow {
      let mayOverflow = request.flags & CmdFlag.dontFragment != 0 || request.length > 32 << 20
      try demand(mayOverflow, "EOVERFLOW only for DF and for over-large requests")
    }
    if error == NBDErrno.shutdown { try demand(mayBeShutDown, "ESHUTDOWN only while shutting down") }
  }
}

extension WireReader {
  func peek<T: FixedWidthInteger & UnsignedInteger>(_ type: T.Type) -> T {
    var copy = self
    return copy.number(type)
  }
}
