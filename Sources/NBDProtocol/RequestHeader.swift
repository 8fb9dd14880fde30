// The fixed part of a request, as it came.

/// Spec: "Request message".
///
///     0     4       6      8        16       24      28
///     magic flags   type   cookie   offset   length  (payload of a WRITE)
package struct RequestHeader: Sendable, Equatable {
  package static let byteCount = 28

  package var flags: UInt16
  package var type: UInt16
  /// Opaque; goes back in every reply.
  package var cookie: UInt64
  package var offset: UInt64
  package var length: UInt32

  package init(flags: UInt16, type: UInt16, cookie: UInt64, offset: UInt64, length: UInt32) {
    self.flags = flags
    self.type = type
    self.cookie = cookie
    self.offset = offset
    self.length = length
  }

  /// `bytes` begin with a header; it is our bug if they are fewer than `byteCount`.
  /// - Throws: at a wrong magic; where the next request begins is then unknown. `atByte` is 0.
  package static func decode(_ bytes: RawSpan) throws(ProtocolViolation) -> RequestHeader {
    precondition(bytes.byteCount >= byteCount, "a request header is 28 bytes")
    guard bytes.bigEndianUInt32(at: 0) == Magic.request else {
      throw ProtocolViolation(what: "a request begins with a wrong magic number", atByte: 0)
    }
    return RequestHeader(
      flags: bytes.bigEndianUInt16(at: 4), type: bytes.bigEndianUInt16(at: 6), cookie: bytes.bigEndianUInt64(at: 8),
      offset: bytes.bigEndianUInt64(at: 16), length: bytes.bigEndianUInt32(at: 24))
  }
}
