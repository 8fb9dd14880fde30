// The handshake, server side: bytes of the client in, replies out, in the end a session. Fixed newstyle. Keeps no bytes
// of the client: an option that is not complete stays with the caller.

/// State of one connection before transmission. The caller sends `greeting` first.
package struct Handshake: Sendable {
  /// First bytes of a server: two magic numbers and what it offers. 18 bytes.
  package static let greeting: [UInt8] = {
    var bytes: [UInt8] = []
    bytes.appendBigEndian(Magic.initPassword)
    bytes.appendBigEndian(Magic.option)
    bytes.appendBigEndian(UInt16(HandshakeFlags.offered.rawValue))
    return bytes
  }()

  enum Phase {
    case clientFlags
    case haggling
    /// In the data of an option that nobody reads; `answer` follows when all of it has gone by.
    case skipping(option: UInt32, bytes: Int, answer: SkippedAnswer)
    case ended
  }

  enum SkippedAnswer {
    case abort
    case error(OptionError)
  }

  let limits: HandshakeLimits
  private var phase = Phase.clientFlags
  private var clientFlags: HandshakeFlags = []
  private var optionCount = 0
  /// Of the stream from the client.
  private var bytesConsumed: UInt64 = 0
  var agreed = Agreement()

  package init(limits: HandshakeLimits = HandshakeLimits()) { self.limits = limits }

  /// Consumes complete messages from the front of `bytes` and appends the replies to `output`; the caller sends them in
  /// one send. Call it again with what was not consumed in front of what came meanwhile.
  /// - Throws: the client broke a MUST. Nothing may be called afterwards; `output` holds replies to earlier messages.
  package mutating func receive(
    _ bytes: RawSpan, exports: some ExportDirectory, isShuttingDown: Bool, output: inout [UInt8]
  ) throws(ProtocolViolation) -> HandshakeProgress {
    let outputBefore = output.count
    var consumed = 0
    while true {
      let rest = bytes.extracting(consumed..<bytes.byteCount)
      if rest.byteCount > 0 && output.count - outputBefore >= limits.outputBytesBeforeSend {
        return HandshakeProgress(consumed: consumed, outcome: .sendFirst)
      }
      let step: Step
      do throws(ProtocolViolation) {
        step = try advance(rest, exports, isShuttingDown, &output)
      } catch {
        phase = .ended
        throw error
      }
      consumed += step.consumed
      bytesConsumed += UInt64(step.consumed)
      guard let outcome = step.outcome else { continue }
      switch outcome {
      case .needsMore, .sendFirst: break
      case .transmission, .close: phase = .ended
      }
      return HandshakeProgress(consumed: consumed, outcome: outcome)
    }
  }

  /// One message or a part of one. No outcome: go on.
  private struct Step {
    var consumed: Int
    var outcome: HandshakeProgress.Outcome?
  }

  private mutating func advance(
    _ bytes: RawSpan, _ exports: some ExportDirectory, _ isShuttingDown: Bool, _ output: inout [UInt8]
  ) throws(ProtocolViolation) -> Step {
    switch phase {
    case .clientFlags:
      guard bytes.byteCount >= 4 else { return Step(consumed: 0, outcome: .needsMore(atLeast: 4)) }
      try receiveClientFlags(bytes.bigEndianUInt32(at: 0))
      return Step(consumed: 4)
    case .haggling:
      return try receiveOption(bytes, exports, isShuttingDown, &output)
    case .skipping(let option, let left, let answer):
      let skipped = min(left, bytes.byteCount)
      guard skipped == left else {
        phase = .skipping(option: option, bytes: left - skipped, answer: answer)
        return Step(consumed: skipped, outcome: .needsMore(atLeast: 1))
      }
      phase = .haggling
      let replies = OptionReplies(option: option)
      switch answer {
      case .error(let error):
        replies.append(error, to: &output)
        return Step(consumed: skipped)
      case .abort:
        replies.append(.ack, to: &output)
        return Step(consumed: skipped, outcome: .close(.aborted))
      }
    case .ended:
      preconditionFailure("a handshake that has ended receives nothing")
    }
  }

  private mutating func receiveClientFlags(_ raw: UInt32) throws(ProtocolViolation) {
    let flags = HandshakeFlags(rawValue: raw)
    guard HandshakeFlags.offered.isSuperset(of: flags) else {
      throw violation("the client flags 0x\(String(raw, radix: 16)) contain one that was not offered")
    }
    clientFlags = flags
    phase = .haggling
  }

  ///     0      8       12      16
  ///     magic  option  length  data
  private mutating func receiveOption(
    _ bytes: RawSpan, _ exports: some ExportDirectory, _ isShuttingDown: Bool, _ output: inout [UInt8]
  ) throws(ProtocolViolation) -> Step {
    let headerBytes = 16
    guard bytes.byteCount >= headerBytes else {
      return Step(consumed: 0, outcome: .needsMore(atLeast: headerBytes))
    }
    guard bytes.bigEndianUInt64(at: 0) == Magic.option else {
      throw violation("an option begins with a wrong magic number")
    }
    let number = bytes.bigEndianUInt32(at: 8)
    let option = Option(rawValue: number)
    let length = Int(bytes.bigEndianUInt32(at: 12))
    try checkHeader(number, option, length)
    guard optionCount < limits.optionsMax else {
      return Step(consumed: 0, outcome: .close(.tooManyOptions(max: limits.optionsMax)))
    }
    if option == .exportName && isShuttingDown {
      return Step(consumed: headerBytes, outcome: .close(.shuttingDown))
    }
    if let answer = answerWithoutReading(option, length, isShuttingDown) {
      optionCount += 1
      phase = .skipping(option: number, bytes: length, answer: answer)
      // Whatever it asked for, it replaces the old set even when it fails (NBD_OPT_SET_META_CONTEXT).
      if option == .setMetaContext { agreed.contexts = nil }
      return Step(consumed: headerBytes)
    }
    guard let option else { preconditionFailure("unknown options are answered without being read") }
    let end = headerBytes + length
    guard bytes.byteCount >= end else { return Step(consumed: 0, outcome: .needsMore(atLeast: end)) }
    optionCount += 1
    let outcome = try perform(option, bytes.extracting(headerBytes..<end), exports, &output)
    return Step(consumed: end, outcome: outcome)
  }

  /// What ends the connection before the data of an option is looked at.
  private func checkHeader(_ number: UInt32, _ option: Option?, _ length: Int) throws(ProtocolViolation) {
    if option != .exportName && !clientFlags.contains(.fixedNewstyle) {
      throw violation("option \(number) came without fixed newstyle having been negotiated")
    }
    if length > limits.optionBytesFatal {
      throw violation("the data of option \(number) is \(length) bytes long")
    }
    // It has no error reply that could say so.
    if option == .exportName && length > WireString.bytesMax {
      throw violation("an export name of \(length) bytes was sent")
    }
  }

  /// The answer to an option whose data needs no look, or gets none for being too long. Nil: it has to be read.
  private func answerWithoutReading(_ option: Option?, _ length: Int, _ isShuttingDown: Bool) -> SkippedAnswer? {
    if option == .abort { return .abort }
    if isShuttingDown { return .error(OptionError(.errorShutdown, "the server is shutting down")) }
    guard let option else { return .error(OptionError(.errorUnsupported, "this option is not known")) }
    let rule = option.rule
    if let refusal = rule.refusal { return .error(refusal) }
    switch rule.data {
    case .ignored: return nil
    case .none:
      return length == 0 ? nil : .error(OptionError(.errorInvalid, "\(option.specName) has no data"))
    case .parsed:
      return length <= limits.optionBytesMax
        ? nil : .error(OptionError(.errorTooBig, "the data of an option is at most \(limits.optionBytesMax) bytes"))
    }
  }

  /// Carries out an option whose data is complete. Nil: haggling goes on.
  private mutating func perform(
    _ option: Option, _ data: RawSpan, _ exports: some ExportDirectory, _ output: inout [UInt8]
  ) throws(ProtocolViolation) -> HandshakeProgress.Outcome? {
    let replies = OptionReplies(option: option.rawValue)
    do throws(OptionError) {
      switch option {
      case .exportName: return try agreed.exportName(data, exports, clientFlags, &output)
      case .info:
        _ = try agreed.info(data, exports, takes: false, replies, &output)
        return nil
      case .go: return .transmission(try agreed.info(data, exports, takes: true, replies, &output))
      case .list: try agreed.list(exports, replies, &output)
      case .structuredReply: try agreed.structuredReply(replies, &output)
      case .listMetaContext: try agreed.listMetaContext(data, exports, limits, replies, &output)
      case .setMetaContext: try agreed.setMetaContext(data, exports, limits, replies, &output)
      case .abort, .startTLS, .peekExport, .extendedHeaders:
        preconditionFailure("\(option.specName) is answered without being read")
      }
      return nil
    } catch {
      // Nothing stands in front of it: each option checks everything before it replies.
      if option == .exportName { throw violation(error.text) }
      replies.append(error, to: &output)
      return nil
    }
  }

  private func violation(_ what: String) -> ProtocolViolation {
    ProtocolViolation(what: what, atByte: bytesConsumed)
  }
}
