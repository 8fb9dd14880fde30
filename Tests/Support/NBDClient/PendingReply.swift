// A structured reply while its chunks come in. Rules kept: chunks lie inside the request, never overlap, cover it when there
// is no error; at most one content chunk with DF; one BLOCK_STATUS chunk per selected context; ERROR at most once.

import Glibc

struct PendingReply {
  let type: UInt16
  let flags: UInt16
  let cookie: UInt64
  let offset: UInt64
  let length: UInt32

  var chunkCount = 0
  private var contentCount = 0
  private var covered: [Range<UInt64>] = []
  private var sawPlainError = false
  private var reply: Reply

  init(type: UInt16, flags: UInt16, cookie: UInt64, offset: UInt64, length: UInt32) {
    (self.type, self.flags, self.cookie, self.offset, self.length) = (type, flags, cookie, offset, length)
    reply = Reply(cookie: cookie)
  }

  /// No honest chunk is longer than the data asked for or 2^20 descriptors.
  var chunkBytesMax: UInt32 { max(type == Cmd.read ? length.addingClamped(8) : 0, 8 << 20 | 4096) }

  mutating func add(type chunk: UInt16, length chunkBytes: Int, client: RawClient) throws {
    chunkCount += 1
    switch chunk {
    case ChunkType.none: try client.demand(chunkBytes == 0, "NONE has no payload")
    case ChunkType.offsetData:
      try client.demand(type == Cmd.read && chunkBytes > 8, "OFFSET_DATA answers READ and has data")
      var head = WireReader(try client.socket.receive(8))
      let start = head.number(UInt64.self)
      try cover(start, UInt64(chunkBytes - 8), client)
      prepareData()
      let first = Int(start - offset)
      try reply.data.withUnsafeMutableBytes {
        try client.socket.receive(into: UnsafeMutableRawBufferPointer(rebasing: $0[first..<first + chunkBytes - 8]))
      }
    case ChunkType.offsetHole:
      try client.demand(type == Cmd.read && chunkBytes == 12, "OFFSET_HOLE answers READ and has 12 bytes")
      var body = WireReader(try client.socket.receive(12))
      let start = body.number(UInt64.self)
      let count = UInt64(body.number(UInt32.self))
      try client.demand(count != 0, "a hole is not empty")
      try cover(start, count, client)
      prepareData()
      reply.holes.append(start..<start + count)
    case ChunkType.blockStatus: try addStatus(chunkBytes, client)
    case ChunkType.error, ChunkType.errorOffset: try addError(chunk, chunkBytes, client)
    default: throw ClientError.ruleBroken("chunk type \(chunk) is defined")
    }
  }

  mutating func finish(client: RawClient) throws -> Reply {
    reply.isStructured = true
    reply.chunkCount = chunkCount
    if reply.error != 0 {
      reply.data = []
      return reply
    }
    if type == Cmd.read {
      let total = covered.reduce(0) { $0 + UInt64($1.count) }
      try client.demand(total == UInt64(length), "chunks cover the READ: \(total) of \(length) bytes")
      prepareData()
    }
    if type == Cmd.blockStatus {
      let selected = Set(client.contexts.values)
      try client.demand(Set(reply.extents.keys) == selected, "one BLOCK_STATUS chunk per selected context")
    }
    return reply
  }

  private mutating func prepareData() {
    if reply.data.isEmpty && length > 0 { reply.data = [UInt8](repeating: 0, count: Int(length)) }
  }

  private mutating func cover(_ start: UInt64, _ count: UInt64, _ client: RawClient) throws {
    contentCount += 1
    if flags & CmdFlag.dontFragment != 0 { try client.demand(contentCount == 1, "DF: one content chunk") }
    let (end, overflow) = start.addingReportingOverflow(count)
    try client.demand(!overflow && start >= offset && end <= offset + UInt64(length), "a chunk lies inside its READ")
    let range = start..<end
    try client.demand(!covered.contains { $0.overlaps(range) }, "chunks do not overlap")
    covered.append(range)
  }

  private mutating func addStatus(_ chunkBytes: Int, _ client: RawClient) throws {
    try client.demand(type == Cmd.blockStatus, "BLOCK_STATUS chunks answer BLOCK_STATUS")
    try client.demand(chunkBytes >= 12 && (chunkBytes - 4) % 8 == 0, "BLOCK_STATUS has an id and descriptors")
    var body = WireReader(try client.socket.receive(chunkBytes))
    let id = body.number(UInt32.self)
    guard let name = client.contexts[id] else { throw ClientError.ruleBroken("context \(id) was selected") }
    try client.demand(reply.extents[name] == nil, "one chunk per context")
    var extents: [Extent] = []
    var sum: UInt64 = 0
    while body.remaining > 0 {
      try client.demand(sum < UInt64(length), "all extents but the last end inside the request")
      let extent = Extent(lengthBytes: body.number(), status: body.number())
      try client.demand(extent.lengthBytes > 0, "no extent is empty")
      try client.demand(extent.status & ~3 == 0, "base:allocation defines two bits")
      try client.demand(extents.last?.status != extent.status, "equal neighbours are one extent")
      sum += UInt64(extent.lengthBytes)
      extents.append(extent)
    }
    try client.demand(extents.count <= 1 << 20, "at most 2^20 extents")
    try client.demand(sum <= client.export.sizeBytes - offset, "extents end inside the export")
    if flags & CmdFlag.reqOne != 0 {
      try client.demand(extents.count == 1 && sum <= UInt64(length), "REQ_ONE: one extent inside the request")
    }
    reply.extents[name] = extents
  }

  private mutating func addError(_ chunk: UInt16, _ chunkBytes: Int, _ client: RawClient) throws {
    let fixed = chunk == ChunkType.errorOffset ? 14 : 6
    try client.demand(chunkBytes >= fixed, "an error chunk has its fields")
    var body = WireReader(try client.socket.receive(chunkBytes))
    let error = body.number(UInt32.self)
    let textBytes = Int(body.number(UInt16.self))
    try client.demand(error != 0, "an error chunk has an error")
    try client.demand(chunkBytes == fixed + textBytes, "an error chunk is as long as its text says")
    let text = body.take(textBytes)
    try client.demandText(text)
    if chunk == ChunkType.errorOffset {
      let at = body.number(UInt64.self)
      let inside = at >= offset && (at - offset < UInt64(length) || length == 0)
      try client.demand(inside, "ERROR_OFFSET \(at) lies inside the request")
      reply.errorOffset = at
    } else {
      try client.demand(!sawPlainError, "ERROR at most once")
      sawPlainError = true
    }
    if reply.error == 0 {
      reply.error = error
      reply.errorText = String(decoding: text, as: UTF8.self)
    }
  }
}

extension UInt32 {
  fileprivate func addingClamped(_ other: UInt32) -> UInt32 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}
