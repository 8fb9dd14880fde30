// The handshake as a stream: it does not matter how bytes are cut, and no bytes whatsoever make it trap, loop or ask
// for more than its bound.

import Testing

@testable import NBDProtocol

struct StreamTests {
  /// Limits that random handshakes can reach.
  static let limits = HandshakeLimits(
    optionsMax: 12, optionBytesMax: 16 << 10, optionBytesFatal: 20 << 10, queriesMax: 3, outputBytesBeforeSend: 300)

  /// What came out, for comparison.
  private struct Outcome: Equatable {
    var output: [UInt8]
    var ending: Ending
    var kept: [UInt8]
    var flags: UInt16?
    var contextID: UInt32?

    init(_ conversation: Conversation) {
      output = conversation.output
      ending = conversation.ending
      // Whoever is cut off has no use for the rest.
      kept = conversation.violation == nil ? conversation.kept : []
      flags = conversation.session?.flags.rawValue
      contextID = conversation.session?.allocationContextID
    }
  }

  /// Says all of `bytes`, cut by `next`.
  private func outcome(
    _ bytes: [UInt8], limits: HandshakeLimits = Self.limits, next: () -> Int
  ) -> Outcome {
    var conversation = Conversation(
      limits: limits, exports: Exports(exports: [Exports.disk, Exports.other]))
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = min(max(1, next()), rest.count)
      conversation.say(Array(rest.prefix(count)))
      rest = rest.dropFirst(count)
    }
    #expect(conversation.needsMax <= limits.optionBytesMax + 16)
    // Each call ends the turn or hands out at least `outputBytesBeforeSend` bytes.
    #expect(conversation.calls <= bytes.count + conversation.output.count / limits.outputBytesBeforeSend + 1)
    return Outcome(conversation)
  }

  static let dialogues: [[[UInt8]]] = [
    [Client.option(.exportName, Array("disk".utf8)), Client.request(type: 0)],
    [
      Client.option(.structuredReply), Client.option(.list), Client.option(77, [1, 2, 3, 4, 5]),
      Client.option(.setMetaContext, Client.queries("disk", ["base:allocation", "x:y"])),
      Client.option(.info, Client.info("disk", [1, 2, 3])), Client.option(.go, Client.info("disk", [3])),
      Client.request(type: 7, length: 99),
    ],
    [Client.option(.startTLS), Client.option(.abort, [1, 2, 3])],
    [Client.option(.info, Array(repeating: 0, count: (16 << 10) + 1)), Client.option(.go, Client.info("other"))],
    [Client.option(.list, [1]), Client.option(.exportName, [0xff])],
    [Client.option(.go, Client.info("nowhere")), Array("GET / HTTP/1.1\r\n\r\n".utf8)],
    (0..<14).map { Client.option(UInt32($0 + 100)) },
  ]

  @Test(arguments: 0..<Self.dialogues.count)
  func byteByByteIsTheSameAsInOnePiece(dialogue: Int) {
    let bytes = Client.flags(Client.fixed | Client.noZeroes) + Self.dialogues[dialogue].flatMap { $0 }
    let whole = outcome(bytes) { bytes.count }
    #expect(whole.ending != .waits)
    let byByte = outcome(bytes) { 1 }
    #expect(byByte.ending == whole.ending)
    let isSame = byByte == whole && outcome(bytes) { 7 } == whole
    #expect(isSame)
  }

  @Test func mutatedHandshakesNeverTrap() {
    var random = SeededGenerator(seed: printedSeed())
    var endings: [String: Int] = [:]
    for number in 0..<3000 {
      let bytes = Self.mutated(&random)
      let whole = outcome(bytes) { bytes.count }
      let cut = outcome(bytes) { Int.random(in: 1...40, using: &random) }
      let isSame = whole == cut
      #expect(isSame, "handshake \(number) depends on how it is cut: \(whole.ending), \(cut.ending)")
      endings[String("\(whole.ending)".prefix(6)), default: 0] += 1
    }
    // A test that only ever sees one ending tests little.
    #expect(endings.count == 4, "\(endings)")
  }

  /// A plausible handshake with damage.
  private static func mutated(_ random: inout SeededGenerator) -> [UInt8] {
    let flags: UInt32 = Int.random(in: 0..<8, using: &random) == 0 ? .random(in: 0..<8, using: &random) : 3
    var messages = [Client.flags(flags)]
    for _ in 0..<Int.random(in: 1...8, using: &random) {
      var message = dialogues.randomElement(using: &random)?.randomElement(using: &random) ?? []
      let damage = Int.random(in: 0..<10, using: &random)
      guard !message.isEmpty else { continue }
      let position = Int.random(in: 0..<message.count, using: &random)
      switch damage {
      case 0: message[position] = .random(in: 0...255, using: &random)
      case 1: message[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 2: message.removeSubrange(position...)
      case 3: message.insert(.random(in: 0...255, using: &random), at: position)
      case 4 where message.count >= 20:
        // A length that lies, the framing kept.
        let field = Client.bytes(UInt32.random(in: 0...40, using: &random))
        let start = Int.random(in: 16...message.count - 4, using: &random)
        message.replaceSubrange(start..<start + 4, with: field)
      case 5 where message.count >= 16:
        let lengths: [UInt32] = [0, 1, 6, 4096, 16 << 10, (16 << 10) + 1, 20 << 10, (20 << 10) + 1, .max]
        message.replaceSubrange(12..<16, with: Client.bytes(lengths.randomElement(using: &random) ?? 0))
      default: break
      }
      messages.append(message)
    }
    return messages.flatMap { $0 }
  }

  @Test func randomRequestHeadersNeverTrap() {
    var random = SeededGenerator(seed: printedSeed())
    let edges: [UInt64] = [0, 1, 511, 512, 1 << 20, 1 << 30, (1 << 30) - 1, 1 << 32, 1 << 63, .max - 1, .max]
    func number(_ random: inout SeededGenerator) -> UInt64 {
      let base = edges.randomElement(using: &random) ?? 0
      return Bool.random(using: &random) ? base : base &+ .random(in: 0...4096, using: &random)
    }
    var accepted = 0
    var refused = 0
    for _ in 0..<20_000 {
      let block = UInt32(1) << UInt32.random(in: 0...12, using: &random)
      let size = number(&random) / UInt64(block) * UInt64(block)
      let session = Session.test(
        sizeBytes: size, flags: TransmissionFlags(rawValue: .random(in: 0...0xfff, using: &random)),
        replies: Bool.random(using: &random) ? .simple : .structured, blockBytesMin: block,
        contextID: Bool.random(using: &random) ? 1 : nil)
      let bytes = Client.request(
        type: .random(in: 0...9, using: &random),
        flags: Bool.random(using: &random) ? 0 : .random(in: 0...0xff, using: &random), offset: number(&random),
        length: UInt32(truncatingIfNeeded: number(&random)))
      guard let header = try? unsafe RequestHeader.decode(bytes.span.bytes),
        let verdict = try? session.validate(header, isShuttingDown: .random(in: 0..<20, using: &random) == 0)
      else { continue }
      switch verdict {
      case .accepted(let request):
        accepted += 1
        guard request.command.rule.hasRange else { continue }
        #expect(request.range.upperBound <= size)
        #expect(request.offset % UInt64(block) == 0 && request.length % block == 0)
        #expect(!request.command.rule.changesData || !session.flags.contains(.readOnly))
      case .refused(let refusal):
        refused += 1
        #expect(refusal.payloadBytes == (header.type == Command.write.rawValue ? header.length : 0))
        let reply = encoded { ReplyEncoder(session: session).encodeRefusal(refusal, into: &$0, at: $1) }
        #expect(reply.count <= ReplyEncoder.errorBytesMax)
        if let offset = refusal.offset {
          #expect(offset >= header.offset && offset - header.offset < UInt64(header.length))
        }
      }
    }
    #expect(accepted > 500)
    #expect(refused > 500)
  }

  @Test func randomBytesNeverTrap() {
    var random = SeededGenerator(seed: printedSeed())
    for _ in 0..<500 {
      let option = Option.allCases.randomElement(using: &random) ?? .info
      let data = (0..<Int.random(in: 0...200, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
      let bytes = Client.flags(3) + Client.option(.structuredReply) + Client.option(option, data) + data
      let whole = outcome(bytes) { bytes.count }
      #expect(whole == outcome(bytes) { 1 })
    }
  }
}
