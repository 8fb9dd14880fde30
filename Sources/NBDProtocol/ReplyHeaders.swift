// The fixed parts of replies (spec: "Simple reply message", "Structured reply chunk message").

extension ReplyEncoder {
  func encodeSimple(
    cookie: UInt64, error: NBDError?, into span: inout MutableRawSpan, at start: Int
  ) -> Int {
    span.storeBigEndian(Magic.simpleReply, at: start)
    span.storeBigEndian(error?.rawValue ?? 0, at: start + 4)
    span.storeBigEndian(cookie, at: start + 8)
    return Self.simpleHeaderBytes
  }

  /// Returns the position behind it, where the payload goes.
  func encodeChunkHeader(
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
