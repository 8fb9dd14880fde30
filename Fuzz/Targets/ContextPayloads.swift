// Target "contexts": the data of LIST_META_CONTEXT and SET_META_CONTEXT, beside a second reader of it that was written from the
// specification alone. What was selected in the end must be what BLOCK_STATUS is allowed.

import NBDProtocol

@Sendable package func fuzzContexts(_ input: [UInt8]) throws {
  var tape = Tape(input)
  let mode = tape.byte()
  let exports = FuzzExports(hasDefault: mode & 1 != 0, listIsAllowed: true)
  let limits: HandshakeLimits = mode & 2 != 0 ? .tight : HandshakeLimits()
  let isStructured = mode & 4 != 0
  var dialogue = Dialogue(limits: limits, exports: exports, isShuttingDown: false)
  var cuts = Cuts(seed: tape.byte())
  try dialogue.say(Say.number(3 as UInt32), &cuts)
  if isStructured {
    try dialogue.say(Say.option(8, []), &cuts)
    try expect([1], &dialogue, from: 0, "STRUCTURED_REPLY")
  }
  /// The name and the export that the selection is good for.
  var selected: (name: [UInt8], export: ExportDescription)?
  for _ in 0..<6 where !tape.isAtEnd {
    let isSet = tape.flag()
    let data =
      switch tape.byte() % 3 {
      case 0: queries(&tape)
      case 1: tape.take(Int(tape.byte()))
      default: Array(queries(&tape).dropLast(Int(tape.byte() % 24))) + tape.take(Int(tape.byte() % 24))
      }
    let before = dialogue.output.count
    try dialogue.say(Say.option(isSet ? 10 : 9, data), &cuts)
    let answer = judge(data, limits, exports, isStructured: isStructured, isSet: isSet)
    try expect(answer.types, &dialogue, from: before, isSet ? "SET_META_CONTEXT" : "LIST_META_CONTEXT")
    if isSet { selected = answer.selected }
  }
  let name = tape.pick([[], Array("disk".utf8), Array("é".utf8), Array("e\u{301}".utf8), Array("other".utf8)])
  let byName = tape.flag()
  try dialogue.say(Say.option(byName ? 1 : 7, byName ? name : Say.info(name, [])), &cuts)
  guard let session = dialogue.session else { return }
  let mayAsk = selected.map { $0.name == name && $0.export == session.export } ?? false
  try demand((session.allocationContextID != nil) == mayAsk, "contexts are good for the name they were selected with")
  let header = RequestHeader(flags: 0, type: 7, cookie: 1, offset: 0, length: 512)
  guard session.export.sizeBytes >= 512 else { return }
  switch try session.validate(header) {
  case .accepted: try demand(mayAsk, "BLOCK_STATUS needs a selected context")
  case .refused(let refusal): try demand(!mayAsk, "BLOCK_STATUS is refused: \(refusal.text)")
  }
}

private struct ContextAnswer {
  /// Types of the replies.
  var types: [UInt32]
  var selected: (name: [UInt8], export: ExportDescription)?

  static func error(_ number: UInt32) -> ContextAnswer { ContextAnswer(types: [0x8000_0000 | number]) }
}

/// What the specification demands as an answer.
private func judge(
  _ data: [UInt8], _ limits: HandshakeLimits, _ exports: FuzzExports, isStructured: Bool, isSet: Bool
) -> ContextAnswer {
  let (invalid, unknown, tooBig) = (3 as UInt32, 6 as UInt32, 9 as UInt32)
  if data.count > limits.optionBytesMax { return .error(tooBig) }
  if !isStructured { return .error(invalid) }
  var rest = data[...]
  func string() -> [UInt8]? {
    guard rest.count >= 4 else { return nil }
    let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
    guard length <= rest.count - 4, length <= 4096 else { return nil }
    let bytes = Array(rest.dropFirst(4).prefix(length))
    rest = rest.dropFirst(4 + length)
    return bytes.contains(0) || String(validating: bytes, as: UTF8.self) == nil ? nil : bytes
  }
  guard let name = string(), rest.count >= 4 else { return .error(invalid) }
  let count = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
  rest = rest.dropFirst(4)
  guard count * 4 <= rest.count else { return .error(invalid) }
  if count > limits.queriesMax { return .error(tooBig) }
  var asked: [[UInt8]] = []
  for _ in 0..<count {
    guard let query = string(), let colon = query.firstIndex(of: 0x3a), colon > 0 else { return .error(invalid) }
    asked.append(query)
  }
  guard rest.isEmpty else { return .error(invalid) }
  guard let export = exports.find(String(decoding: name, as: UTF8.self)) else { return .error(unknown) }
  let (allocation, base) = (Array("base:allocation".utf8), Array("base:".utf8))
  let isNamed = asked.contains(allocation)
  if isSet {
    return ContextAnswer(types: isNamed ? [4, 1] : [1], selected: isNamed ? (name, export) : nil)
  }
  return ContextAnswer(types: isNamed || asked.isEmpty || asked.contains(base) ? [4, 1] : [1])
}

/// The replies behind `start` have these types.
private func expect(
  _ types: [UInt32], _ dialogue: inout Dialogue, from start: Int, _ what: String
) throws {
  var scanner = Scanner(dialogue.output, from: start)
  for type in types {
    _ = try scanner.take(12)
    let got = try scanner.number(UInt32.self)
    try demand(got == type, "\(what) is answered with \(got), not with \(type)")
    let data = try scanner.take(Int(try scanner.number(UInt32.self)))
    if type == 4 { try demand(data.dropFirst(4).elementsEqual("base:allocation".utf8), "the context has its name") }
  }
  try demand(scanner.remaining == 0, "\(what) has no further answers")
}
