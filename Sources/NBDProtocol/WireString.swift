// Strings on the wire: UTF-8, no NUL, at most 4096 bytes (spec: "Conventions").

enum WireString {
  /// The spec's MUST.
  static let bytesMax = 4096
  /// The spec's SHOULD; texts that this server composes are cut to it.
  static let textBytesMax = 256

  /// - Throws: NBD_REP_ERR_INVALID, `what` names the string in it.
  static func decode(_ bytes: RawSpan, _ what: String) throws(OptionError) -> String {
    guard bytes.byteCount <= bytesMax else {
      throw OptionError(.errorInvalid, "\(what) is longer than \(bytesMax) bytes")
    }
    // Bounded by the check above: the wire does not size this.
    var codeUnits: [UInt8] = []
    codeUnits.reserveCapacity(bytes.byteCount)
    for offset in bytes.byteOffsets {
      let byte = unsafe bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
      guard byte != 0 else { throw OptionError(.errorInvalid, "\(what) contains a NUL") }
      codeUnits.append(byte)
    }
    guard let string = String(validating: codeUnits, as: UTF8.self) else {
      throw OptionError(.errorInvalid, "\(what) is not UTF-8")
    }
    return string
  }

  /// A string of ours may go onto the wire.
  static func isValid(_ string: String) -> Bool {
    string.utf8.count <= bytesMax && !string.utf8.contains(0)
  }

  /// How many bytes of `text` are sent when at most `bytesMax` may be: never half a character.
  static func bytes(of text: String, atMost bytesMax: Int) -> Int {
    let utf8 = text.utf8
    guard utf8.count > bytesMax else { return utf8.count }
    var end = utf8.index(utf8.startIndex, offsetBy: bytesMax)
    var count = bytesMax
    while utf8[end] & 0b1100_0000 == 0b1000_0000 {
      end = utf8.index(before: end)
      count -= 1
    }
    return count
  }

  /// The same bytes. Swift's `==` also takes different spellings of one character for equal, which the spec does not.
  static func areEqual(_ left: String, _ right: String) -> Bool {
    left.utf8.elementsEqual(right.utf8)
  }
}
