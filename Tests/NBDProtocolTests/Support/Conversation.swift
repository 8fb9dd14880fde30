// One client in its handshake: I say, it answers.

import Testing

@testable import NBDProtocol

/// Exports of a test.
struct Exports: ExportDirectory {
  var exports: [ExportDescription] = [Exports.disk]
  /// Answers to "".
  var defaultExport: ExportDescription? = Exports.disk
  var listIsAllowed = true

  func find(_ name: String) -> ExportDescription? {
    name.isEmpty ? defaultExport : exports.first { $0.name == name }
  }

  var list: [(name: String, description: String?)] { exports.map { ($0.name, $0.description) } }

  static let writable: TransmissionFlags = [
    .sendFlush, .sendFUA, .sendTrim, .sendWriteZeroes, .sendFastZero, .sendCache, .canMultiConn,
  ]
  static let disk = ExportDescription(
    id: ExportID(rawValue: 1), name: "disk", description: "a disk", sizeBytes: 1 << 30, flags: writable)
  static let other = ExportDescription(
    id: ExportID(rawValue: 2), name: "other", sizeBytes: 1 << 20, flags: [.readOnly])
}

/// A reply to an option, taken apart.
struct Reply: Equatable {
  var option: UInt32
  var rawType: UInt32
  var data: [UInt8]

  var type: OptionReplyType? { OptionReplyType(rawValue: rawType) }
  var isError: Bool { rawType & 0x8000_0000 != 0 }
  /// Everything but SERVER, INFO and META_CONTEXT ends an option.
  var isFinal: Bool { type == .ack || isError }
  var text: String { String(decoding: data, as: UTF8.self) }

  static func parse(_ bytes: [UInt8]) -> [Reply] {
    var scanner = Scanner(bytes)
    var replies: [Reply] = []
    while !scanner.isAtEnd {
      #expect(scanner.number(UInt64.self) == 0x3e889045565a9)
      let option = scanner.number(UInt32.self)
      let type = scanner.number(UInt32.self)
      let length = scanner.number(UInt32.self)
      replies.append(Reply(option: option, rawType: type, data: scanner.take(Int(length))))
    }
    return replies
  }
}

/// How a turn of the server ended.
enum Ending: Equatable {
  case waits
  case transmission
  case closed
  case violation(atByte: UInt64)
}

/// Drives a handshake as a server does: keeps what was not consumed, calls again while it is told to.
struct Conversation {
  var handshake: Handshake
  var exports = Exports()
  var isShuttingDown = false
  private(set) var ending = Ending.waits
  private(set) var session: Session?
  private(set) var violation: ProtocolViolation?
  private(set) var closeText: String?
  /// Everything it said.
  private(set) var output: [UInt8] = []
  /// What it left for the transmission phase, or waits to be completed.
  private(set) var kept: [UInt8] = []
  /// Longest wish it had.
  private(set) var needsMax = 0
  private(set) var calls = 0

  init(limits: HandshakeLimits = HandshakeLimits(), exports: Exports = Exports()) {
    handshake = Handshake(limits: limits)
    self.exports = exports
  }

  /// Past the client flags.
  static func haggling(
    flags: UInt32 = Client.fixed | Client.noZeroes, limits: HandshakeLimits = HandshakeLimits(),
    exports: Exports = Exports()
  ) -> Conversation {
    var conversation = Conversation(limits: limits, exports: exports)
    conversation.say(Client.flags(flags))
    return conversation
  }

  /// Says `bytes`; returns what is answered. Says nothing once the conversation is over.
  @discardableResult
  mutating func say(_ bytes: [UInt8]) -> [UInt8] {
    kept += bytes
    var answer: [UInt8] = []
    while ending == .waits {
      calls += 1
      do throws(ProtocolViolation) {
        let bytes = kept
        let progress = unsafe try handshake.receive(
          bytes.span.bytes, exports: exports, isShuttingDown: isShuttingDown, output: &answer)
        kept.removeFirst(progress.consumed)
        switch progress.outcome {
        case .needsMore(let count):
          #expect(count > kept.count, "it waits for what it already has")
          needsMax = max(needsMax, count)
          output += answer
          return answer
        case .sendFirst: #expect(progress.consumed > 0, "it makes no progress")
        case .transmission(let session):
          ending = .transmission
          self.session = session
        case .close(let reason):
          ending = .closed
          closeText = reason.text
        }
      } catch {
        ending = .violation(atByte: error.atByte)
        violation = error
      }
    }
    output += answer
    return answer
  }

  @discardableResult
  mutating func ask(_ option: UInt32, _ data: [UInt8] = []) -> [Reply] { Reply.parse(say(Client.option(option, data))) }

  @discardableResult
  mutating func ask(_ option: Option, _ data: [UInt8] = []) -> [Reply] { ask(option.rawValue, data) }

  /// The types of the replies, for a short comparison.
  mutating func types(_ option: Option, _ data: [UInt8] = []) -> [OptionReplyType?] { ask(option, data).map(\.type) }
}
