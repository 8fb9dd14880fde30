// The reply to a READ, laid out in memory as it goes on the wire. Everything happens under the shared lock of the range
// and into private memory (I3, I4); nothing is sent before all of it is there, so an error still replaces the whole reply.

import BlockBackend
import NBDProtocol

/// What a READ may do.
package struct ReadPlan: Sendable {
  /// Holes are looked up and sent as OFFSET_HOLE chunks.
  package var findsHoles: Bool

  /// Holes shorter than this are sent as zeroes: a chunk of their own would save nothing. At this length a hole and the
  /// header of the data behind it never need more room than its zeroes, so that a reply with holes is never longer than
  /// one without.
  static let holeBytesMin: UInt64 = 4096

  /// Extents that are looked at for one READ; what lies behind them is read as data.
  static let extentsMax = 128

  package init(_ request: Request, session: Session, capabilities: Capabilities) {
    findsHoles =
      session.replies == .structured && !request.flags.contains(.dontFragment)
      && Int(request.length) >= Limits.holeProbeBytesMin && capabilities.contains(.extents)
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
  let extents = plan.findsHoles ? try readExtents(request.range, backend: backend) : []
  guard extents.contains(where: { $0.kind == .hole }) else {
    var reply = PieceBuffer(pool: pool, capacityBytes: readReplyBytesMax(request, encoder: encoder))
    try appendData(request.range, of: request, isLast: true, encoder: encoder, backend: backend, to: &reply)
    return reply
  }
  var capacity = 0
  for extent in extents {
    capacity += extent.kind == .hole ? ReplyEncoder.holeBytes : encoder.readHeaderBytes + Int(extent.lengthBytes)
  }
  var reply = PieceBuffer(pool: pool, capacityBytes: capacity)
  var offset = request.offset
  for (index, extent) in extents.enumerated() {
    let range = offset..<offset + extent.lengthBytes
    let isLast = index == extents.count - 1
    if extent.kind == .hole {
      reply.appendHeader { (span: inout MutableRawSpan) in
        encoder.encodeHole(
          cookie: request.cookie, offset: offset, holeBytes: UInt32(extent.lengthBytes), isLast: isLast, into: &span,
          at: 0)
      }
    } else {
      try appendData(range, of: request, isLast: isLast, encoder: encoder, backend: backend, to: &reply)
    }
    offset = range.upperBound
  }
  return reply
}

private func appendData(
  _ range: Range<UInt64>, of request: Request, isLast: Bool, encoder: ReplyEncoder, backend: any BlockBackend,
  to reply: inout PieceBuffer
) throws(BackendError) {
  reply.appendHeader { (span: inout MutableRawSpan) in
    encoder.encodeReadHeader(
      cookie: request.cookie, offset: range.lowerBound, dataBytes: UInt32(range.upperBound - range.lowerBound),
      isLast: isLast, into: &span, at: 0)
  }
  var offset = range.lowerBound
  while offset < range.upperBound {
    var room = reply.free(bytesMax: Int(range.upperBound - offset))
    let bytes = room.byteCount
    try backend.read(into: &room, at: offset)
    reply.commit(bytes)
    offset += UInt64(bytes)
  }
}

/// All of `range` as holes of at least `holeBytesMin` and data between them.
private func readExtents(_ range: Range<UInt64>, backend: any BlockBackend) throws(BackendError) -> [Extent] {
  var merged: [Extent] = []
  var covered = range.lowerBound
  func add(_ bytes: UInt64, _ kind: Extent.Kind) {
    if let last = merged.last, last.kind == kind {
      merged[merged.count - 1].lengthBytes += bytes
    } else {
      merged.append(Extent(lengthBytes: bytes, kind: kind))
    }
  }
  for extent in try backend.extents(of: range, extentsMax: ReadPlan.extentsMax) {
    let isHole = extent.kind == .hole && extent.lengthBytes >= ReadPlan.holeBytesMin
    add(extent.lengthBytes, isHole ? .hole : .data)
    covered += extent.lengthBytes
  }
  if covered < range.upperBound { add(range.upperBound - covered, .data) }
  return merged
}
