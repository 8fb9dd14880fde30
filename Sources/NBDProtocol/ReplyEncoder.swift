// Writes replies in the form that was negotiated. Sizes are known before anything is written, so that room for a reply
// can be reserved before its request is executed.

/// Encodes at a byte position of a span and returns the bytes written. It is our bug if they do not fit. Holds no state
/// beside mode and window; allocates nothing. Offsets come in bytes of the image and go out in bytes of the export.
package struct ReplyEncoder: Sendable {
  package let mode: ReplyMode
  let imageOffset: UInt64

  package init(mode: ReplyMode, imageOffset: UInt64 = 0) {
    self.mode = mode
    self.imageOffset = imageOffset
  }
  package init(session: Session) { self.init(mode: session.replies, imageOffset: session.export.imageOffset) }

  /// Texts of errors are cut to this, bytes.
  package static let textBytesMax = 200
  /// Longest error reply: chunk header, error, length of text, text, offset.
  package static let errorBytesMax = 20 + 4 + 2 + textBytesMax + 8
  /// A chunk with an OFFSET_HOLE.
  package static let holeBytes = 20 + 12
  /// Simple reply header; a READ of it carries data right behind.
  static let simpleHeaderBytes = 16
  /// Structured chunk header.
  static let chunkHeaderBytes = 20

  /// In front of the data of a READ, or of one OFFSET_DATA chunk of it.
  package var readHeaderBytes: Int {
    switch mode {
    case .simple: Self.simpleHeaderBytes
    case .structured: Self.chunkHeaderBytes + 8
    }
  }

  /// A reply without error and without data.
  package var successBytes: Int {
    switch mode {
    case .simple: Self.simpleHeaderBytes
    case .structured: Self.chunkHeaderBytes
    }
  }

  /// Bytes of a BLOCK_STATUS reply.
  package static func blockStatusBytes(descriptors: Int) -> Int { 20 + 4 + 8 * descriptors }

  /// What goes in front of `dataBytes` bytes of a READ. A READ of length 0 has no data chunk (a chunk without data is
  /// not allowed): it is answered with `encodeSuccess`, and passing 0 does just that, so go by the returned count.
  /// - Parameter isLast: nothing can fail any more and no further chunk follows. Simple replies have one part.
  package func encodeReadHeader(
    cookie: UInt64, offset: UInt64, dataBytes: UInt32, isLast: Bool = true, into span: inout MutableRawSpan,
    at start: Int
  ) -> Int {
    if dataBytes == 0 { return encodeSuccess(cookie: cookie, into: &span, at: start) }
    switch mode {
    case .simple:
      precondition(isLast, "a simple reply cannot be divided")
      return encodeSimple(cookie: cookie, error: nil, into: &span, at: start)
    case .structured:
      precondition(dataBytes <= UInt32.max - 8, "the data of a chunk and its offset have a 32-bit length")
      let position = encodeChunkHeader(
        .offsetData, cookie: cookie, payloadBytes: 8 + dataBytes, isLast: isLast, into: &span, at: start)
      span.storeBigEndian(offset &- imageOffset, at: position)
      return position + 8 - start
    }
  }

  /// A run of zeroes in a READ; not for DF, not for simple replies. `holeBytes` > 0.
  package func encodeHole(
    cookie: UInt64, offset: UInt64, holeBytes: UInt32, isLast: Bool, into span: inout MutableRawSpan, at start: Int
  ) -> Int {
    precondition(mode == .structured, "a simple reply has no holes")
    precondition(holeBytes > 0, "a hole has at least one byte")
    let position = encodeChunkHeader(
      .offsetHole, cookie: cookie, payloadBytes: 12, isLast: isLast, into: &span, at: start)
    span.storeBigEndian(offset &- imageOffset, at: position)
    span.storeBigEndian(holeBytes, at: position + 8)
    return position + 12 - start
  }

  /// Done, nothing to tell.
  package func encodeSuccess(cookie: UInt64, into span: inout MutableRawSpan, at start: Int) -> Int {
    switch mode {
    case .simple: return encodeSimple(cookie: cookie, error: nil, into: &span, at: start)
    case .structured:
      return encodeChunkHeader(.none, cookie: cookie, payloadBytes: 0, isLast: true, into: &span, at: start) - start
    }
  }

  /// The status of one context: the only chunk, hence the last. See `StatusDescriptors` for how they are made.
  package func encodeBlockStatus(
    cookie: UInt64, contextID: UInt32, descriptors: Span<StatusDescriptor>, into span: inout MutableRawSpan,
    at start: Int
  ) -> Int {
    precondition(mode == .structured, "block status needs structured replies")
    precondition(!descriptors.isEmpty, "there is at least one descriptor")
    precondition(descriptors.count <= StatusDescriptors.countMax, "there are at most 2^20 descriptors")
    var position = encodeChunkHeader(
      .blockStatus, cookie: cookie, payloadBytes: UInt32(4 + 8 * descriptors.count), isLast: true, into: &span,
      at: start)
    span.storeBigEndian(contextID, at: position)
    position += 4
    for index in descriptors.indices {
      span.storeBigEndian(descriptors[index].lengthBytes, at: position)
      span.storeBigEndian(descriptors[index].status.rawValue, at: position + 4)
      position += 8
    }
    return position - start
  }
}
