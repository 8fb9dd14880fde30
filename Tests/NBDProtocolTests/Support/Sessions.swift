// Sessions, requests and replies of tests.

@testable import NBDProtocol

extension Session {
  /// A session with everything there is to negotiate.
  static func test(
    sizeBytes: UInt64 = 1 << 30, flags: TransmissionFlags = Exports.writable, replies: ReplyMode = .structured,
    blockBytesMin: UInt32 = 1, payloadBytesMax: UInt32 = 32 << 20, contextID: UInt32? = 1
  ) -> Session {
    let export = ExportDescription(
      id: ExportID(rawValue: 1), name: "disk", sizeBytes: sizeBytes, flags: flags, blockBytesMin: blockBytesMin,
      payloadBytesMax: payloadBytesMax)
    return Session(
      export: export, flags: export.flags(for: replies), replies: replies, clientKnowsBlockSizes: false,
      allocationContextID: replies == .structured ? contextID : nil)
  }

  /// The verdict on a request; a violation is nil.
  func judge(
    _ command: Command, _ offset: UInt64 = 0, _ length: UInt32 = 0, flags: UInt16 = 0, isShuttingDown: Bool = false
  ) -> Verdict? {
    let header = RequestHeader(flags: flags, type: command.rawValue, cookie: 7, offset: offset, length: length)
    return try? validate(header, isShuttingDown: isShuttingDown)
  }

  /// The error of a refused request; nil when it is accepted.
  func error(
    _ command: Command, _ offset: UInt64 = 0, _ length: UInt32 = 0, flags: UInt16 = 0, isShuttingDown: Bool = false
  ) -> NBDError? {
    judge(command, offset, length, flags: flags, isShuttingDown: isShuttingDown)?.refusal?.error
  }

  func accepts(_ command: Command, _ offset: UInt64 = 0, _ length: UInt32 = 0, flags: UInt16 = 0) -> Bool {
    judge(command, offset, length, flags: flags)?.request != nil
  }
}

extension Verdict {
  var request: Request? {
    switch self {
    case .accepted(let request): request
    case .refused: nil
    }
  }

  var refusal: Refusal? {
    switch self {
    case .accepted: nil
    case .refused(let refusal): refusal
    }
  }
}

extension Command {
  /// Offset and length mean bytes of the export.
  static let ranged = allCases.filter(\.rule.hasRange)
}

/// Bytes that `encode` puts at position 3 of a span, which is full of 0xEE; checks that it writes nothing else.
func encoded(_ encode: (inout MutableRawSpan, Int) -> Int) -> [UInt8] {
  let start = 3
  var bytes = [UInt8](repeating: 0xee, count: 512)
  var count = 0
  do {
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    count = encode(&raw, start)
  }
  precondition(bytes[..<start].allSatisfy { $0 == 0xee }, "something was written in front of the reply")
  precondition(bytes[(start + count)...].allSatisfy { $0 == 0xee }, "more was written than was said")
  return Array(bytes[start..<start + count])
}

/// A reply taken apart.
enum Chunk: Equatable {
  case simple(error: UInt32, cookie: UInt64)
  case structured(flags: UInt16, type: ReplyType?, cookie: UInt64, payload: [UInt8])

  /// `bytes` are one reply message; a payload that is said to follow has to be there.
  static func parse(_ bytes: [UInt8]) -> Chunk {
    var scanner = Scanner(bytes)
    if scanner.number(UInt32.self) == 0x6744_6698 {
      let error = scanner.number(UInt32.self)
      let cookie = scanner.number(UInt64.self)
      precondition(scanner.isAtEnd, "a simple reply is 16 bytes")
      return .simple(error: error, cookie: cookie)
    }
    precondition(bytes.prefix(4) == [0x66, 0x8e, 0x33, 0xef], "a reply begins with a wrong magic number")
    let flags = scanner.number(UInt16.self)
    let type = ReplyType(rawValue: scanner.number())
    let cookie = scanner.number(UInt64.self)
    let length = scanner.number(UInt32.self)
    let payload = scanner.take(Int(length))
    precondition(scanner.isAtEnd, "the length of a chunk is right")
    return .structured(flags: flags, type: type, cookie: cookie, payload: payload)
  }
}
