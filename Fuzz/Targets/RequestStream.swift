// Target "requests": one client in transmission, simple or structured, whose requests are carried out one after the other on
// memory. A second, plain opinion says which must be refused and with what, and a mirror says what every READ has to bring.

import BlockBackend
import NBDProtocol
import NBDServerCore

@Sendable package func fuzzRequests(_ input: [UInt8]) throws {
  var tape = Tape(input)
  let mode = tape.byte()
  var cuts = Cuts(seed: tape.byte())
  let sizes: [UInt64] = [1 << 18, 65536 + 512, 4096, 1000, 0, 1 << 40, (1 << 62) - 512, 300_000]
  let blocks: [UInt32] = [1, 512, 4096, 65536]
  let blockBytes = blocks[Int(mode >> 3 & 3)]
  let sizeBytes = sizes[Int(mode >> 5)] / UInt64(blockBytes) * UInt64(blockBytes)
  let capabilities: Capabilities = tape.flag() ? Capabilities(rawValue: UInt32(tape.byte()) | 1) : .memory
  let geometry = Geometry(sizeBytes: sizeBytes, blockBytesMin: blockBytes, blockBytesPreferred: max(4096, blockBytes))
  let exports = ExportTable([
    ExportTable.Entry(name: "", isReadOnly: mode & 4 != 0, geometry: geometry, capabilities: capabilities)
  ])
  var server = try SequentialServer(
    exports, MemoryBackend(geometry: geometry, capabilities: capabilities), isStructured: mode & 1 != 0,
    context: tape.flag())
  let stream = mode & 2 != 0 ? tape.rest() : requestStream(&tape, sizeBytes: sizeBytes, blockBytes: UInt64(blockBytes))
  var at = 0
  while at < stream.count, !server.hasEnded {
    let count = cuts.next(of: stream.count - at)
    try server.receive(stream[at..<at + count], parks: count & 3 == 0)
    at += count
  }
  try server.checkContent()
}

/// Requests put together from choices; offsets crowd where something ends.
private func requestStream(_ tape: inout Tape, sizeBytes: UInt64, blockBytes: UInt64) -> [UInt8] {
  var stream: [UInt8] = []
  var cookie: UInt64 = 0
  let lengths: [UInt32] = [
    512, 4096, 1, 0, 65536, 1000, 100_000, 262_144, 262_145, 300_000, 1 << 20, (32 << 20) + 1, (64 << 20) + 1, .max,
  ]
  while !tape.isAtEnd && stream.count < 1 << 20 {
    let choice = tape.byte()
    cookie += 1
    let type = choice & 15 < 14 ? UInt16(choice & 7) : tape.number()
    let flags: UInt16 = choice & 16 != 0 ? UInt16(tape.byte()) : 0
    let base: [UInt64] = [0, blockBytes, sizeBytes, sizeBytes / 2, 65536, 4096, .max, 1 << 63]
    let place = tape.byte()
    var offset = base[Int(place & 7)] &+ UInt64(place >> 3 & 7) &* blockBytes
    if place & 64 != 0 { offset = offset &- UInt64(tape.byte()) &* blockBytes }
    if place & 128 != 0 { offset = offset &+ UInt64(tape.byte()) }
    let size = tape.byte()
    var length = size & 128 != 0 ? UInt32(size & 127) &* UInt32(blockBytes) : lengths[Int(size) % lengths.count]
    if [2, 3].contains(type), size & 64 == 0 { (offset, length) = (0, 0) }
    stream += Say.request(
      type, flags: flags, cookie: cookie &* 0x0101_0101_0101_0101, offset: offset, length: length,
      magic: choice == 0xff ? 1 : Say.requestMagic)
    guard type == 1 else { continue }
    // A payload that is announced too long never comes whole.
    stream += [UInt8](repeating: UInt8(truncatingIfNeeded: cookie), count: min(Int(length), 400_000))
  }
  return stream
}

/// A server that does one thing at a time, with its client.
private struct SequentialServer: ~Copyable {
  private let exports: ExportTable
  private let backend: MemoryBackend
  private let session: Session
  private let encoder: ReplyEncoder
  private let pool = PiecePool()
  private var inlet: Inlet
  private var reader: ReplyReader
  /// What the image holds, as long as it is small enough to be kept.
  private var mirror: [UInt8]?
  /// The stream of the client, and how far its requests have been answered.
  private var stream: [UInt8] = []
  private var answeredTo = 0
  private(set) var hasEnded = false

  init(_ exports: ExportTable, _ backend: MemoryBackend, isStructured: Bool, context: Bool) throws {
    (self.exports, self.backend) = (exports, backend)
    inlet = Inlet(pool: pool)
    inlet.push(Say.number(3 as UInt32))
    if isStructured {
      inlet.push(Say.option(8, []))
      if context { inlet.push(Say.option(10, Say.queries([], [Array("base:allocation".utf8)]))) }
    }
    inlet.push(Say.option(7, Say.info([], [])))
    guard case .established(let session)? = try inlet.next(exports) else {
      throw Finding(description: "the handshake of the target is understood")
    }
    self.session = session
    encoder = ReplyEncoder(session: session)
    let sizeBytes = backend.geometry.sizeBytes
    reader = ReplyReader(isStructured: isStructured, sizeBytes: sizeBytes)
    mirror = sizeBytes <= 1 << 20 ? [UInt8](repeating: 0, count: Int(sizeBytes)) : nil
  }

  mutating func receive(_ bytes: ArraySlice<UInt8>, parks: Bool) throws {
    stream += bytes
    inlet.push(bytes)
    while !hasEnded, let event = try inlet.next(exports) {
      let header = try nextHeader(event)
      switch event {
      case .established, .close: throw Finding(description: "the handshake is over")
      case .violation:
        hasEnded = true
        let isBroken = header.map { $0.magic != Say.requestMagic || ($0.type == 1 && $0.length > 64 << 20) }
        try demand(isBroken == true, "a connection ends for a breach only")
      case .disconnect:
        hasEnded = true
        try demand(header?.type == 2, "DISC ends the connection")
      case .refused(let refusal): try answer(refusal, header)
      case .request(let request, let payload): try answer(request, payload, header)
      }
    }
    if parks { try inlet.park() }
  }

  // MARK: What the client said

  private struct Header {
    var magic: UInt32
    var flags: UInt16
    var type: UInt16
    var cookie: UInt64
    var offset: UInt64
    var length: UInt32
  }

  /// The request that `event` is about, read from the stream in order.
  private mutating func nextHeader(_ event: Inlet.Event) throws -> Header? {
    var scanner = Scanner(stream, from: answeredTo)
    guard scanner.remaining >= 28 else { throw Finding(description: "an event needs a request") }
    let header = try Header(
      magic: scanner.number(), flags: scanner.number(), type: scanner.number(), cookie: scanner.number(),
      offset: scanner.number(), length: scanner.number())
    answeredTo += 28 + (header.type == 1 ? Int(header.length) : 0)
    reader.ask(
      header.cookie,
      ReplyReader.Asked(type: header.type, flags: header.flags, offset: header.offset, length: header.length))
    return header
  }

  /// The error that the specification and our flags demand; 0: it has to be carried out.
  private func verdict(_ header: Header) -> UInt32 {
    let (permission, invalid, noSpace) = (1 as UInt32, 22 as UInt32, 28 as UInt32)
    let told = session.flags
    let changes = [1, 4, 6].contains(header.type)
    guard header.type <= 7 else { return invalid }
    if changes && told.contains(.readOnly) { return permission }
    let needs: [UInt16: TransmissionFlags] = [3: .sendFlush, 4: .sendTrim, 5: .sendCache, 6: .sendWriteZeroes]
    if !told.isSuperset(of: needs[header.type] ?? []) { return invalid }
    if header.type == 7 && session.allocationContextID == nil { return invalid }
    let valid: [UInt16: UInt16] = [0: 5, 6: 1 | 2 | 16, 7: 1 | 8]
    if header.flags & ~valid[header.type, default: 1] != 0 { return invalid }
    if header.flags & 4 != 0 && !told.contains(.sendDF) { return invalid }
    if header.flags & 16 != 0 && !told.contains(.sendFastZero) { return invalid }
    if header.type == 3 { return header.offset == 0 && header.length == 0 ? 0 : invalid }
    if header.type <= 1 && header.length > 32 << 20 { return invalid }
    let (end, overflows) = header.offset.addingReportingOverflow(UInt64(header.length))
    if overflows || end > session.export.sizeBytes { return header.type == 1 || header.type == 6 ? noSpace : invalid }
    let unit = UInt64(session.export.blockBytesMin)
    if header.offset % unit != 0 || UInt64(header.length) % unit != 0 { return invalid }
    return header.type == 7 && header.length == 0 ? invalid : 0
  }

  // MARK: Answers

  private mutating func answer(_ refusal: Refusal, _ header: Header?) throws {
    guard let header else { return }
    try demand(verdict(header) == refusal.error.rawValue, "refused with \(refusal.error): \(header)")
    try demand(refusal.cookie == header.cookie, "the cookie comes back")
    try deliver { [encoder] span in encoder.encodeRefusal(refusal, into: &span, at: 0) }
  }

  private mutating func answer(_ request: Request, _ payload: [UInt8], _ header: Header?) throws {
    guard let header else { return }
    try demand(verdict(header) == 0, "carried out: \(header)")
    try demand(
      request.cookie == header.cookie && request.offset == header.offset && request.length == header.length,
      "the request is what the client sent")
    if request.command == .write {
      try demand(payload.count == Int(header.length), "the payload is complete")
      try demand(areEqual(payload, stream[answeredTo - payload.count..<answeredTo]), "the payload is what was sent")
    }
    // More than a megabyte would be slow, and what is not mirrored not checked.
    guard mirror != nil, request.length <= 1 << 20 || request.command != .read else { return }
    if request.length == 0 {
      return try deliver { [encoder] span in encoder.encodeSuccess(cookie: request.cookie, into: &span, at: 0) }
    }
    switch request.command {
    case .read: return try read(request)
    case .blockStatus: return try status(request)
    case .write:
      try backend.write(payload.rawBytes, at: request.offset)
      mirror?.replaceSubrange(Int(request.offset)..<Int(request.range.upperBound), with: payload)
    case .writeZeroes:
      try backend.zero(request.range, request.flags.contains(.noHole) ? .noHole : [])
      mirror?.replaceSubrange(
        Int(request.offset)..<Int(request.range.upperBound), with: repeatElement(0, count: Int(request.length)))
    case .trim: try trim(request)
    case .flush, .cache, .disconnect: break
    }
    try deliver { [encoder] span in encoder.encodeSuccess(cookie: request.cookie, into: &span, at: 0) }
  }

  private mutating func read(_ request: Request) throws {
    let plan = ReadPlan(request, session: session, capabilities: backend.capabilities)
    let built = try buildReadReply(request, encoder: encoder, plan: plan, backend: backend, pool: pool)
    try demand(built.count <= readReplyBytesMax(request, encoder: encoder), "a reply keeps to the room it was given")
    let replies = try reader.receive(built.array())
    guard let mirror, let reply = replies.first, replies.count == 1 else {
      throw Finding(description: "one reply answers one READ")
    }
    let isRight = areEqual(reply.data, mirror[Int(request.offset)..<Int(request.range.upperBound)])
    try demand(isRight, "a READ brings what was written")
  }

  private mutating func status(_ request: Request) throws {
    var status = StatusDescriptors(
      request: request, blockBytesMin: session.export.blockBytesMin, countMax: Limits.extentsPerReplyMax)
    for extent in try backend.extents(of: request.range, extentsMax: 64) {
      let flags: AllocationStatus =
        switch extent.kind {
        case .data: []
        case .hole: [.hole, .zero]
        case .zero: .zero
        }
      status.append(lengthBytes: extent.lengthBytes, status: flags)
    }
    status.finish()
    var reply = [UInt8](repeating: 0, count: ReplyEncoder.blockStatusBytes(descriptors: status.descriptors.count))
    var span = reply.mutableSpan
    var bytes = span.mutableBytes
    let count = encoder.encodeBlockStatus(
      cookie: request.cookie, contextID: session.allocationContextID ?? 0, descriptors: status.descriptors.span,
      into: &bytes, at: 0)
    try demand(count == reply.count, "a status is as long as was reckoned")
    let replies = try reader.receive(reply)
    let mirror = mirror ?? []
    var at = Int(request.offset)
    for extent in replies.first?.extents ?? [] {
      let end = min(at + Int(extent.length), mirror.count)
      let unit = Int(session.export.blockBytesMin)
      try demand(at % unit == 0 && (end % unit == 0 || end == mirror.count), "extents begin on whole blocks")
      try demand(extent.status == 0 || isZero(mirror[at..<end]), "what is called a hole reads as zeroes")
      at = end
    }
  }

  /// Each byte is old or zero afterwards, and none outside changes: `checkContent` sees to that.
  private mutating func trim(_ request: Request) throws {
    try backend.trim(request.range)
    let now = try content(request.range)
    for (index, byte) in now.enumerated() {
      let at = Int(request.offset) + index
      try demand(byte == 0 || byte == mirror?[at], "a trimmed byte is old or zero")
      mirror?[at] = byte
    }
  }

  private func content(_ range: Range<UInt64>) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xdd, count: range.count)
    var span = bytes.mutableSpan
    var raw = span.mutableBytes
    try backend.read(into: &raw, at: range.lowerBound)
    return bytes
  }

  func checkContent() throws {
    guard let mirror else { return }
    let isRight = areEqual(try content(0..<UInt64(mirror.count)), mirror[...])
    try demand(isRight, "nothing changed but what was written")
  }

  private mutating func deliver(_ encode: (inout MutableRawSpan) -> Int) throws {
    var bytes = [UInt8](repeating: 0, count: ReplyEncoder.errorBytesMax)
    var span = bytes.mutableSpan
    var raw = span.mutableBytes
    let count = encode(&raw)
    let replies = try reader.receive(bytes[..<count])
    try demand(replies.count == 1 && !reader.hasRest, "one reply answers one request")
  }
}
