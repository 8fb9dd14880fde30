// Writes replies to options (spec: "Fixed newstyle negotiation", "Option reply types").

/// Appends the replies to one option to the bytes that go to the client.
struct OptionReplies {
  /// As it came: unknown options are answered too.
  let option: UInt32

  func append(_ type: OptionReplyType, to output: inout [UInt8], _ data: (inout [UInt8]) -> Void = { _ in }) {
    output.appendBigEndian(Magic.optionReply)
    output.appendBigEndian(option)
    output.appendBigEndian(type.rawValue)
    let lengthAt = output.count
    output.appendBigEndian(UInt32(0))
    data(&output)
    // Strings of ours are at most 4096 bytes: the length always fits.
    let length = UInt32(output.count - lengthAt - 4)
    for index in 0..<4 { output[lengthAt + index] = UInt8(truncatingIfNeeded: length >> UInt32(24 - 8 * index)) }
  }

  /// The final reply of an option that failed, with a text for a human.
  func append(_ error: OptionError, to output: inout [UInt8]) {
    append(error.type, to: &output) { data in
      data.append(contentsOf: error.text.utf8.prefix(WireString.bytes(of: error.text, atMost: WireString.textBytesMax)))
    }
  }
}

extension [UInt8] {
  mutating func appendBigEndian(_ value: some FixedWidthInteger) {
    for shift in stride(from: value.bitWidth - 8, through: 0, by: -8) {
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  mutating func appendLengthAndString(_ string: String) {
    appendBigEndian(UInt32(string.utf8.count))
    append(contentsOf: string.utf8)
  }
}
