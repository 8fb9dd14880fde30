// Takes numbers and strings off the front of bytes from the peer. Never traps: what does not fit is thrown.

/// The option cannot be done; the client is told why and haggling goes on.
struct OptionError: Error, Equatable {
  var type: OptionReplyType
  var text: String

  init(_ type: OptionReplyType, _ text: String) {
    self.type = type
    self.text = text
  }
}

/// Reads the data of one option. Every count is checked against what is left before anything is taken.
struct WireReader: ~Escapable {
  private let bytes: RawSpan
  private var position = 0

  @_lifetime(copy bytes)
  init(_ bytes: RawSpan) { self.bytes = bytes }

  var remainingBytes: Int { bytes.byteCount - position }

  mutating func uint16(_ what: String) throws(OptionError) -> UInt16 {
    let start = try advance(2, what)
    return bytes.bigEndianUInt16(at: start)
  }

  mutating func uint32(_ what: String) throws(OptionError) -> UInt32 {
    let start = try advance(4, what)
    return bytes.bigEndianUInt32(at: start)
  }

  /// A string with its 32-bit length in front.
  mutating func lengthAndString(_ what: String) throws(OptionError) -> String {
    let length = Int(try uint32("the length of \(what)"))
    let start = try advance(length, what)
    return try WireString.decode(bytes.extracting(start..<start + length), what)
  }

  /// Nothing may be left over.
  func end() throws(OptionError) {
    guard remainingBytes == 0 else {
      throw OptionError(.errorInvalid, "\(remainingBytes) bytes are left over behind the data of the option")
    }
  }

  private mutating func advance(_ count: Int, _ what: String) throws(OptionError) -> Int {
    guard count <= remainingBytes else {
      throw OptionError(.errorInvalid, "\(what) does not fit into the data of the option")
    }
    defer { position += count }
    return position
  }
}

// Bounds are checked by the span; "unsafe" is only the choice of type, and every bit pattern is an integer.
extension RawSpan {
  func bigEndianUInt16(at offset: Int) -> UInt16 {
    UInt16(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self))
  }

  func bigEndianUInt32(at offset: Int) -> UInt32 {
    UInt32(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }

  func bigEndianUInt64(at offset: Int) -> UInt64 {
    UInt64(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }
}
