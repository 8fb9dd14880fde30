// Target "options": a client haggles, with real or broken messages, in any pieces. The answers are held to the specification,
// and must not depend on how the stream was cut.

import NBDProtocol

@Sendable package func fuzzOptions(_ input: [UInt8]) throws {
  var tape = Tape(input)
  let mode = tape.byte()
  var cuts = Cuts(seed: tape.byte())
  let exports = FuzzExports(hasDefault: mode & 2 != 0, listIsAllowed: mode & 4 != 0)
  let limits: HandshakeLimits = mode & 8 != 0 ? .tight : HandshakeLimits()
  let stream = mode & 1 != 0 ? tape.rest() : optionStream(&tape)

  var whole = Dialogue(limits: limits, exports: exports, isShuttingDown: mode & 16 != 0)
  var once = Cuts(seed: 0)
  try whole.say(stream, &once)
  var cut = Dialogue(limits: limits, exports: exports, isShuttingDown: mode & 16 != 0)
  try cut.say(stream, &cuts)
  try demand(whole.output == cut.output, "the answers depend on how the stream was cut")
  try demand(whole.ending == cut.ending, "the end depends on how the stream was cut: \(whole.ending), \(cut.ending)")
  if case .violation = whole.ending {
  } else {
    try demand(whole.kept == cut.kept, "what is left for the requests depends on how the stream was cut")
  }
  try checkAnswers(whole, to: stream, exports)
}

/// Messages put together from choices: well-formed ones with any contents, and ones that lie about their length.
private func optionStream(_ tape: inout Tape) -> [UInt8] {
  let flags: [UInt32] = [3, 1, 0, 2, 4, 0x8000_0003]
  var stream = Say.number(tape.pick(flags))
  while !tape.isAtEnd && stream.count < 1 << 20 {
    let choice = tape.byte()
    let number: UInt32
    switch choice & 15 {
    case 1...11: number = UInt32(choice & 15)
    case 12: number = 99
    case 13: number = tape.number()
    case 14:
      stream += tape.take(Int(tape.byte()))
      continue
    default: number = 7
    }
    switch choice >> 4 {
    case 0, 1: stream += Say.option(number, [])
    case 2, 3: stream += Say.option(number, tape.take(Int(tape.byte())))
    case 4...7:
      let name = tape.pick(namesAsked)
      let requests = (0..<tape.byte() % 8).map { _ in UInt16(tape.byte()) }
      stream += Say.option(number, Say.info(name, requests))
    case 8: stream += Say.option(number, tape.pick(namesAsked))
    case 9: stream += Say.option(number, tape.take(Int(tape.byte())), announced: tape.number())
    case 10: stream += Say.option(number, [UInt8](repeating: tape.byte(), count: Int(tape.byte()) << 9))
    default: stream += Say.option(number, queries(&tape))
    }
  }
  return stream
}

func queries(_ tape: inout Tape) -> [UInt8] {
  let name = tape.pick(namesAsked)
  let known: [[UInt8]] = [
    Array("base:allocation".utf8), Array("base:".utf8), Array("base:unknown".utf8), Array("qemu:x".utf8),
    Array("base".utf8), Array(":x".utf8), [], [0xff, 0x3a], Array("a:\u{0}".utf8),
    Array("x:".utf8) + [UInt8](repeating: 0x62, count: 4095),
  ]
  let list = (0..<tape.byte() % 9).map { _ in tape.flag() ? tape.take(Int(tape.byte() % 32)) : tape.pick(known) }
  return Say.queries(name, list)
}

/// One message of the client as the stream says it is.
private struct Message {
  var option: UInt32
  var data: [UInt8]
}

/// The complete messages at the front of `stream`, behind the client flags, up to a wrong magic.
private func messages(_ stream: [UInt8]) throws -> [Message] {
  var messages: [Message] = []
  var scanner = Scanner(stream, from: min(4, stream.count))
  while scanner.remaining >= 16 {
    guard try scanner.number(UInt64.self) == Say.optionMagic else { break }
    let option = try scanner.number(UInt32.self)
    let length = Int(try scanner.number(UInt32.self))
    guard scanner.remaining >= length else { break }
    messages.append(Message(option: option, data: try scanner.take(length)))
  }
  return messages
}

private func checkAnswers(_ dialogue: Dialogue, to stream: [UInt8], _ exports: FuzzExports) throws {
  var scanner = Scanner(dialogue.output)
  var last: Message?
  for message in try messages(stream) {
    guard scanner.remaining > 0 else { break }
    last = message
    if message.option == 1 {
      try demand(dialogue.session != nil, "only an export that is entered answers EXPORT_NAME")
      let size = try scanner.number(UInt64.self)
      let flags = try scanner.number(UInt16.self)
      try demand(size == dialogue.session?.export.sizeBytes, "EXPORT_NAME tells the size")
      try demand(flags == dialogue.session?.flags.rawValue, "EXPORT_NAME tells the flags")
      if scanner.remaining > 0 { try demand(try scanner.take(124).allSatisfy { $0 == 0 }, "124 zeroes follow") }
      break
    }
    while try checkReply(&scanner, to: message) {}
  }
  try demand(scanner.remaining == 0, "\(scanner.remaining) bytes answer nothing")
  guard let session = dialogue.session else { return }
  try demand(last?.option == 1 || last?.option == 7, "GO or EXPORT_NAME begins the transmission")
  try demand(session.flags.contains(.hasFlags), "HAS_FLAGS is set")
  try demand(session.flags.contains(.sendDF) == (session.replies == .structured), "SEND_DF means structured replies")
  try demand(session.allocationContextID == nil || session.replies == .structured, "a context needs structured replies")
  let name =
    last?.option == 1
    ? last?.data : last.map { Array($0.data.dropFirst(4).dropLast($0.data.count - 4 - nameBytes($0.data))) }
  try demand(
    exports.find(String(decoding: name ?? [], as: UTF8.self)) == session.export, "the export that was asked for")
}

private func nameBytes(_ data: [UInt8]) -> Int {
  data.prefix(4).reduce(0) { $0 << 8 | Int($1) }
}

/// - Returns: true when more replies to the same option have to follow.
private func checkReply(_ scanner: inout Scanner, to message: Message) throws -> Bool {
  try demand(try scanner.number(UInt64.self) == Say.optionReplyMagic, "a reply begins with its magic")
  try demand(try scanner.number(UInt32.self) == message.option, "replies come in the order of the options")
  let type = try scanner.number(UInt32.self)
  let data = try scanner.take(Int(try scanner.number(UInt32.self)))
  if type & 0x8000_0000 != 0 {
    try demand([1, 2, 3, 6, 7, 9].contains(type & 0x7fff_ffff), "error \(type) is one that this server sends")
    try demand(!data.isEmpty && data.count <= 256, "an error has a text of at most 256 bytes")
    try demand(String(validating: data, as: UTF8.self) != nil, "a text is UTF-8")
    return false
  }
  switch type {
  case 1:
    try demand(data.isEmpty, "an ACK has no data")
    return false
  case 2: try demand(message.option == 3 && data.count >= 4 && nameBytes(data) <= data.count - 4, "SERVER answers LIST")
  case 3:
    try demand(message.option == 6 || message.option == 7, "INFO answers INFO and GO")
    let lengths = [0: 12, 3: 14]
    let kind = data.prefix(2).reduce(0) { $0 << 8 | Int($1) }
    try demand(
      data.count >= 2 && kind <= 3 && data.count == lengths[kind, default: data.count], "an INFO has its length")
  case 4: try demand(message.option == 9 || message.option == 10, "META_CONTEXT answers LIST and SET")
  default: throw Finding(description: "reply type \(type)")
  }
  return true
}
