// The reply to a READ, laid out in memory as it goes on the wire. Everything happens under the shared lock of the range
// and into private memory (I3, I4); nothing is sent before all of it is there, so an error still replaces the whole reply.

import BlockBackend
import NBDProtocol

/// What a READ may do.
package struct ReadPlan: Sendable {
  /// Holes are looked up and sent as OFFSET_HOLE chunks.
  package var findsHoles: Bool

  /// Holes shorter than this are sent as zeroes: a chunk of their own would save nothing. From 64 bytes on, a hole and the
  /// header of the data behind it never need more room than its zeroes, so that a reply with holes is never longer than
  /// one without.
  package var holeBytesMin: UInt64

  /// Extents that are looked at for one READ; what lies behind them is read as data.
  static let extentsMax = 128

  package init(findsHoles: Bool, holeBytesMin: UInt64 = 4096) {
    self.findsHoles = findsHoles
    self.holeBytesMin = holeBytesMin
  }

  package init(_ request: Request, session: Session, capabilities: Capabilities) {
    self.init(
      findsHoles: session.replies == .structured && !request.flags.contains(.dontFragment)
        && Int(request.length) >= Limits.holeProbeBytesMin && capabilities.contains(.extents))
  }
}

/// Room that the reply needs at most, bytes.
package func readReplyBytesMax(_ request: Request, encoder: ReplyEncoder) -> Int {
  Int(request.length) + encoder.readHeaderBytes
}

/// Reads the range of `request` and builds its reply. Blocks. The caller holds the lock.
package func buildReadReply(
  _ request: Request, encoder: ReplyEncoder, plan: ReadPlan, backend: any BlockBackend, pool: PiecePool
) throws(BackendError) -> PieceBuffer {
  var layout = ReadReplyLayout(request, encoder: encoder, plan: plan, pool: pool)
  while true {
    switch layout.need {
    case .extents(let range, let extentsMax):
      layout.found(try backend.extents(of: range, extentsMax: extentsMax))
    case .data(let offset):
      var room = layout.room()
      let bytes = room.byteCount
      try backend.read(into: &room, at: offset)
      layout.filled(bytes)
    case .nothing: return layout.take()
    }
  }
}

/// A reply to a READ that is being put together. Pure: look at `need`, get it, hand it over.
package struct ReadReplyLayout: ~Copyable, Sendable {
  package enum Need: Sendable, Equatable {
    /// The layout of this range, at most so many extents.
    case extents(Range<UInt64>, extentsMax: Int)
    /// The bytes from here on that `room` has room for.
    case data(UInt64)
    case nothing
  }

  package private(set) var need: Need
  private let request: Request
  private let encoder: ReplyEncoder
  private let plan: ReadPlan
  private let pool: PiecePool
  private var reply: PieceBuffer
  /// What has not been laid out, in order.
  private var extents: [Extent] = []
  private var nextExtent = 0
  /// Where the next extent begins; inside one of data, where its next bytes belong.
  private var offset: UInt64
  private var dataEnd: UInt64

  package init(_ request: Request, encoder: ReplyEncoder, plan: ReadPlan, pool: PiecePool) {
    self.request = request
    self.encoder = encoder
    self.plan = plan
    self.pool = pool
    reply = PieceBuffer(pool: pool, capacityBytes: 0)
    offset = request.offset
    dataEnd = offset
    need = .extents(request.range, extentsMax: ReadPlan.extentsMax)
    guard !plan.findsHoles else { return }
    reply = PieceBuffer(pool: pool, capacityBytes: readReplyBytesMax(request, encoder: encoder))
    lay(Extent(lengthBytes: UInt64(request.length), kind: .data), isLast: true)
    need = .data(offset)
  }

  /// The extents that were needed.
  package mutating func found(_ found: [Extent]) { begin(merged(found)) }

  /// Where the bytes that are needed belong, from the front. Call `filled` when all of it is there.
  @_lifetime(&self)
  package mutating func room() -> MutableRawSpan { reply.free(bytesMax: Int(dataEnd - offset)) }

  /// Bytes of that room.
  package var roomBytes: Int {
    mutating get { room().byteCount }
  }

  /// Copies some of the bytes that are needed into the room, for who gets them in parts.
  package mutating func place(_ bytes: ArraySlice<UInt8>, at start: Int) {
    var room = room()
    var part = room._mutatingExtracting(start..<start + bytes.count)
    part.copy(bytes)
  }

  package mutating func filled(_ bytes: Int) {
    reply.commit(bytes)
    offset += UInt64(bytes)
    advance()
  }

  /// The reply, complete; its owner is the caller now.
  package mutating func take() -> PieceBuffer {
    precondition(need == .nothing, "a reply is taken when it is complete")
    return exchange(&reply, with: PieceBuffer(pool: pool, capacityBytes: 0))
  }

  private mutating func begin(_ extents: [Extent]) {
    self.extents = extents
    var capacity = 0
    for extent in extents {
      capacity += extent.kind == .hole ? ReplyEncoder.holeBytes : encoder.readHeaderBytes + Int(extent.lengthBytes)
    }
    reply = PieceBuffer(pool: pool, capacityBytes: capacity)
    advance()
  }

  /// Lays out everything up to the next bytes that are needed.
  private mutating func advance() {
    while offset == dataEnd {
      guard nextExtent < extents.count else {
        need = .nothing
        return
      }
      nextExtent += 1
      lay(extents[nextExtent - 1], isLast: nextExtent == extents.count)
    }
    need = .data(offset)
  }

  /// A hole as a whole, or what goes in front of data.
  private mutating func lay(_ extent: Extent, isLast: Bool) {
    let (encoder, cookie, start) = (encoder, request.cookie, offset)
    let bytes = UInt32(extent.lengthBytes)
    dataEnd = offset + extent.lengthBytes
    if extent.kind == .hole {
      offset = dataEnd
      reply.appendHeader { (span: inout MutableRawSpan) in
        encoder.encodeHole(cookie: cookie, offset: start, holeBytes: bytes, isLast: isLast, into: &span, at: 0)
      }
    } else {
      reply.appendHeader { (span: inout MutableRawSpan) in
        encoder.encodeReadHeader(
          cookie: cookie, offset: start, dataBytes: bytes, isLast: isLast, into: &span, at: 0)
      }
    }
  }

  /// All of the range as holes of at least `holeBytesMin` and data between them.
  private func merged(_ found: [Extent]) -> [Extent] {
    var merged: [Extent] = []
    var covered = request.range.lowerBound
    func add(_ bytes: UInt64, _ kind: Extent.Kind) {
      if let last = merged.last, last.kind == kind {
        merged[merged.count - 1].lengthBytes += bytes
      } else {
        merged.append(Extent(lengthBytes: bytes, kind: kind))
      }
    }
    for extent in found {
      let isHole = extent.kind == .hole && extent.lengthBytes >= plan.holeBytesMin
      add(extent.lengthBytes, isHole ? .hole : .data)
      covered += extent.lengthBytes
    }
    if covered < request.range.upperBound { add(request.range.upperBound - covered, .data) }
    return merged
  }
}
