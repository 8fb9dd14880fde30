// Writes replies in the form that was negotiated. Sizes are known before anything is written, so that room for a reply can
// be reserved before its request is executed.

/// Encodes at a byte position of a span and returns the bytes written. It is our bug if they do not fit. Holds no state
/// beside the mode; allocates nothing.
package struct ReplyEncoder: Sendable {
  package let mode: ReplyMode

  package init(mode: ReplyMode) { self.mode = mode }
  package init(session: Session) { self.mode = session.replies }

  /// Texts of errors are cut to this, bytes.
  package static let textBytesMax = 200
  /// Longest error reply: chunk header, error, length of text, text, offset.
  package static let errorBytesMax = 20 + 4 + 2 + textBytesMax + 8
  /// A chunk with an OFFSET_HOLE.
  package static let holeBytes = 20 + 12
  /// Simple reply header; a READ of it carries data right behind.
  private static let simpleHeaderBytes = 16
  /// Structured chunk header.
  private static let chunkHeaderBytes = 20

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

  /// What goes in front of `dataBytes` bytes of a READ. A READ of length 0 has no data chunk (its length must be at least
  /// 9): it is answered with `encodeSuccess`, and passing 0 does just that, so go by the returned count.
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
      span.storeBigEndian(offset, at: position)
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
    span.storeBigEndian(offset, at: position)
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

extension ReplyEncoder {
  /// How long `encodeError` with these arguments will be, bytes; never more than `errorBytesMax`.
  package func errorBytes(command: Command?, text: String, offset: UInt64?) -> Int {
    switch mode {
    case .simple: Self.simpleHeaderBytes
    case .structured:
      Self.chunkHeaderBytes + 6 + WireString.bytes(of: text, atMost: Self.textBytesMax)
        + (carriesOffset(command, offset) ? 8 : 0)
    }
  }

  /// The request failed; ends its reply. The text and the offset of the first failing byte only travel in structured
  /// replies, the offset only for commands that may have one. `offset` lies inside the request.
  package func encodeError(
    cookie: UInt64, command: Command?, error: NBDError, text: String, offset: UInt64?,
    into span: inout MutableRawSpan, at start: Int
  ) -> Int {
    switch mode {
    case .simple: return encodeSimple(cookie: cookie, error: error, into: &span, at: start)
    case .structured: break
    }
    let textBytes = WireString.bytes(of: text, atMost: Self.textBytesMax)
    let carriesOffset = carriesOffset(command, offset)
    let payloadBytes = UInt32(6 + textBytes + (carriesOffset ? 8 : 0))
    var position = encodeChunkHeader(
      carriesOffset ? .errorOffset : .error, cookie: cookie, payloadBytes: payloadBytes, isLast: true, into: &span,
      at: start)
    span.storeBigEndian(error.rawValue, at: position)
    span.storeBigEndian(UInt16(textBytes), at: position + 4)
    position += 6
    for byte in text.utf8.prefix(textBytes) {
      span.storeBigEndian(byte, at: position)
      position += 1
    }
    if carriesOffset, let offset {
      span.storeBigEndian(offset, at: position)
      position += 8
    }
    return position - start
  }

  /// The reply to a request that was refused at the door.
  package func encodeRefusal(_ refusal: Refusal, into span: inout MutableRawSpan, at start: Int) -> Int {
    encodeError(
      cookie: refusal.cookie, command: refusal.command, error: refusal.error, text: refusal.text,
      offset: refusal.offset, into: &span, at: start)
  }

  private func carriesOffset(_ command: Command?, _ offset: UInt64?) -> Bool {
    offset != nil && command?.rule.repliesErrorOffset == true
  }

  private func encodeSimple(
    cookie: UInt64, error: NBDError?, into span: inout MutableRawSpan, at start: Int
  ) -> Int {
    span.storeBigEndian(Magic.simpleReply, at: start)
    span.storeBigEndian(error?.rawValue ?? 0, at: start + 4)
    span.storeBigEndian(cookie, at: start + 8)
    return Self.simpleHeaderBytes
  }

  /// Returns the position behind it, where the payload goes.
  private func encodeChunkHeader(
    _ type: ReplyType, cookie: UInt64, payloadBytes: UInt32, isLast: Bool, into span: inout MutableRawSpan,
    at start: Int
  ) -> Int {
    let flags: ReplyFlags = isLast ? .done : []
    span.storeBigEndian(Magic.structuredReply, at: start)
    span.storeBigEndian(flags.rawValue, at: start + 4)
    span.storeBigEndian(type.rawValue, at: start + 6)
    span.storeBigEndian(cookie, at: start + 8)
    span.storeBigEndian(payloadBytes, at: start + 16)
    return start + Self.chunkHeaderBytes
  }
}

extension MutableRawSpan {
  /// Network byte order. Bounds are checked by the span.
  @_lifetime(self: copy self)
  mutating func storeBigEndian(_ value: some FixedWidthInteger & BitwiseCopyable, at offset: Int) {
    storeBytes(of: value.bigEndian, toByteOffset: offset, as: type(of: value))
  }
}
