// A client's reader of replies, which holds the server to the specification: chunks lie inside their request, do not overlap
// and cover it; one reply per cookie; errors are among the eight that are defined.

struct ReplyReader {
  /// What was asked.
  struct Asked {
    var type: UInt16
    var flags: UInt16
    var offset: UInt64
    var length: UInt32
  }

  struct Reply {
    var cookie: UInt64
    var asked: Asked
    var error: UInt32 = 0
    /// What a READ brought.
    var data: [UInt8] = []
    var extents: [(length: UInt32, status: UInt32)] = []
    fileprivate var coveredBytes = 0
    fileprivate var covered: [Range<UInt64>] = []
  }

  let isStructured: Bool
  let sizeBytes: UInt64
  private var bytes: [UInt8] = []
  private(set) var outstanding: [UInt64: Asked] = [:]
  private var partial: [UInt64: Reply] = [:]

  init(isStructured: Bool, sizeBytes: UInt64) { (self.isStructured, self.sizeBytes) = (isStructured, sizeBytes) }

  mutating func ask(_ cookie: UInt64, _ asked: Asked) { outstanding[cookie] = asked }

  /// What the client has received and not understood yet.
  var hasRest: Bool { !bytes.isEmpty || !partial.isEmpty }

  /// The replies that are complete with these bytes.
  mutating func receive(_ new: some Sequence<UInt8>) throws -> [Reply] {
    bytes += new
    var replies: [Reply] = []
    var at = 0
    while let (count, reply) = try message(at: at) {
      at += count
      if let reply { replies.append(reply) }
    }
    bytes.removeFirst(at)
    return replies
  }

  /// One message at `at`, and the reply that it completes. Nil: it is not all there.
  private mutating func message(at start: Int) throws -> (Int, Reply?)? {
    var scanner = Scanner(bytes, from: start)
    guard scanner.remaining >= 16 else { return nil }
    let magic = try scanner.number(UInt32.self)
    if magic == 0x6744_6698 {
      let error = try scanner.number(UInt32.self)
      let cookie = try scanner.number(UInt64.self)
      var reply = Reply(cookie: cookie, asked: try asked(cookie), error: error)
      try demand(partial[cookie] == nil, "a simple reply does not follow chunks")
      let isRead = reply.asked.type == 0
      try demand(!(isStructured && isRead), "READ gets structured replies once they are negotiated")
      try demand(!(reply.asked.type == 7 && error == 0), "BLOCK_STATUS gets a structured reply")
      let count = isRead && error == 0 ? Int(reply.asked.length) : 0
      guard scanner.remaining >= count else { return nil }
      reply.data = try scanner.take(count)
      try finish(reply)
      return (scanner.position - start, reply)
    }
    try demand(magic == 0x668e_33ef, "a reply begins with a reply magic")
    try demand(isStructured, "structured replies only after negotiation")
    guard scanner.remaining >= 16 else { return nil }
    let flags = try scanner.number(UInt16.self)
    let type = try scanner.number(UInt16.self)
    let cookie = try scanner.number(UInt64.self)
    let length = Int(try scanner.number(UInt32.self))
    try demand(flags & ~1 == 0, "no chunk flag but DONE")
    var reply = try partial[cookie] ?? Reply(cookie: cookie, asked: asked(cookie))
    try demand(length <= Int(reply.asked.length) + 8 << 20, "a chunk is not longer than any honest one")
    guard scanner.remaining >= length else { return nil }
    try add(type, try scanner.take(length), to: &reply)
    guard flags & 1 != 0 else {
      try demand(type != 0, "NONE carries DONE")
      partial[cookie] = reply
      return (scanner.position - start, nil)
    }
    partial[cookie] = nil
    try finish(reply)
    return (scanner.position - start, reply)
  }

  private func asked(_ cookie: UInt64) throws -> Asked {
    guard let asked = outstanding[cookie] else {
      throw Finding(description: "a reply answers a request that is open: cookie \(cookie)")
    }
    return asked
  }

  private func add(_ type: UInt16, _ payload: [UInt8], to reply: inout Reply) throws {
    var scanner = Scanner(payload)
    let asked = reply.asked
    switch type {
    case 0: try demand(payload.isEmpty, "NONE has no payload")
    case 1, 2:
      try demand(asked.type == 0, "data answers READ")
      let offset = try scanner.number(UInt64.self)
      let data =
        type == 1
        ? try scanner.take(scanner.remaining) : [UInt8](repeating: 0, count: Int(try scanner.number(UInt32.self)))
      try demand(!data.isEmpty && scanner.remaining == 0, "a chunk of a READ has bytes")
      let end = offset + UInt64(data.count)
      try demand(offset >= asked.offset && end <= asked.offset + UInt64(asked.length), "a chunk lies inside its READ")
      try demand(!reply.covered.contains { $0.overlaps(offset..<end) }, "chunks do not overlap")
      try demand(asked.flags & 4 == 0 || reply.covered.isEmpty, "DF: one content chunk")
      if reply.data.isEmpty { reply.data = [UInt8](repeating: 0, count: Int(asked.length)) }
      let first = Int(offset - asked.offset)
      reply.data.replaceSubrange(first..<first + data.count, with: data)
      reply.covered.append(offset..<end)
      reply.coveredBytes += data.count
    case 5: try addStatus(&scanner, to: &reply)
    case 0x8001, 0x8002:
      reply.error = try scanner.number()
      let text = try scanner.take(Int(try scanner.number(UInt16.self)))
      try demand(reply.error != 0, "an error chunk has an error")
      try demand(!text.isEmpty && String(validating: text, as: UTF8.self) != nil, "an error has a text")
      if type == 0x8002 {
        let at = try scanner.number(UInt64.self)
        try demand(
          at >= asked.offset && at - asked.offset < UInt64(asked.length), "ERROR_OFFSET lies inside the request")
      }
      try demand(scanner.remaining == 0, "an error chunk is as long as its text says")
    default: throw Finding(description: "chunk type \(type) is not defined")
    }
  }

  private func addStatus(_ scanner: inout Scanner, to reply: inout Reply) throws {
    try demand(reply.asked.type == 7 && reply.extents.isEmpty, "one BLOCK_STATUS chunk answers BLOCK_STATUS")
    _ = try scanner.number(UInt32.self)
    var sum: UInt64 = 0
    while scanner.remaining > 0 {
      try demand(sum < UInt64(reply.asked.length), "all extents but the last end inside the request")
      let length = try scanner.number(UInt32.self)
      let status = try scanner.number(UInt32.self)
      try demand(length > 0 && status & ~3 == 0, "an extent has bytes and a known status")
      try demand(reply.extents.last.map { $0.status != status } ?? true, "equal neighbours are one extent")
      sum += UInt64(length)
      reply.extents.append((length, status))
    }
    try demand(sum > 0 && sum <= sizeBytes - reply.asked.offset, "extents end inside the export")
    if reply.asked.flags & 8 != 0 {
      try demand(reply.extents.count == 1 && sum <= UInt64(reply.asked.length), "REQ_ONE: one extent in the request")
    }
  }

  private mutating func finish(_ reply: Reply) throws {
    outstanding[reply.cookie] = nil
    let asked = reply.asked
    guard reply.error == 0 else {
      try demand([1, 5, 12, 22, 28, 75, 95, 108].contains(reply.error), "error \(reply.error) is defined")
      try demand(reply.error != 95 || asked.flags & 16 != 0, "ENOTSUP only for FAST_ZERO")
      return
    }
    if asked.type == 0 && isStructured {
      try demand(reply.coveredBytes == Int(asked.length), "chunks cover the READ")
    }
    if asked.type == 7 { try demand(!reply.extents.isEmpty, "BLOCK_STATUS tells an extent") }
  }
}
