// Replies that say why not.

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
      span.storeBigEndian(offset &- imageOffset, at: position)
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
}
