// Exports that are refused to a client, and exports that begin inside an image.

import Testing

@testable import NBDProtocol

/// Refuses what a test says, and notes what was taken.
private final class Gatekeeper {
  var refusal: ExportRefusal?
  var refusalToTake: ExportRefusal?
  var taken = 0
}

private struct GuardedExports: ExportDirectory {
  let keeper: Gatekeeper
  let listIsAllowed = true
  var list: [(name: String, description: String?)] { [] }
  func find(_ name: String) -> ExportDescription? { name == "disk" ? Exports.disk : nil }
  func refusal(of export: ExportDescription) -> ExportRefusal? { keeper.refusal }
  func take(_ export: ExportDescription) -> ExportRefusal? {
    if keeper.refusalToTake == nil { keeper.taken += 1 }
    return keeper.refusalToTake
  }
}

/// What a client that said `bytes` behind its flags is answered, and how that ended.
private func answer(
  _ bytes: [UInt8], _ keeper: Gatekeeper
) throws -> (replies: [UInt8], outcome: HandshakeProgress.Outcome) {
  var handshake = Handshake()
  var output: [UInt8] = []
  let said = Client.flags(Client.fixed | Client.noZeroes) + bytes
  let progress = unsafe try handshake.receive(
    said.span.bytes, exports: GuardedExports(keeper: keeper), isShuttingDown: false, output: &output)
  return (output, progress.outcome)
}

struct ExportPolicyTests {
  /// One error reply with its text, no INFO before it, and the client may go on.
  @Test func aRefusedExportIsAnsweredWithPolicyAndAText() throws {
    let keeper = Gatekeeper()
    keeper.refusal = .policy("not for you")
    let structured = Client.option(.structuredReply)
    let asking: [(Option, [UInt8])] = [
      (.info, Client.info("disk")), (.go, Client.info("disk")),
      (.setMetaContext, Client.queries("disk", ["base:allocation"])), (.listMetaContext, Client.queries("disk", [])),
    ]
    for (option, data) in asking {
      let replies = Reply.parse(try answer(structured + Client.option(option, data), keeper).replies)
      #expect(replies.map(\.type) == [.ack, .errorPolicy], "\(option)")
      #expect(replies.last?.text == "not for you")
    }
    #expect(keeper.taken == 0)
    guard case .close(let text) = try answer(Client.option(.exportName, Array("disk".utf8)), keeper).outcome else {
      Issue.record("EXPORT_NAME cannot be refused but by closing")
      return
    }
    #expect(text.text.contains("not for you"))
  }

  @Test func onlyGoAndExportNameTakeAnExport() throws {
    let keeper = Gatekeeper()
    _ = try answer(Client.option(.info, Client.info("disk")), keeper)
    #expect(keeper.taken == 0)
    _ = try answer(Client.option(.go, Client.info("disk")), keeper)
    #expect(keeper.taken == 1)
    _ = try answer(Client.option(.exportName, Array("disk".utf8)), keeper)
    #expect(keeper.taken == 2)
  }

  /// It was there when the client asked, and is gone when the client takes it.
  @Test func anExportThatIsGoneMeanwhileIsUnknown() throws {
    let keeper = Gatekeeper()
    keeper.refusalToTake = .unknown
    let replies = Reply.parse(try answer(Client.option(.go, Client.info("disk")), keeper).replies)
    #expect(replies.map(\.type) == [.errorUnknown])
    keeper.refusalToTake = .policy("full")
    let full = Reply.parse(try answer(Client.option(.go, Client.info("disk")), keeper).replies)
    #expect(full.map(\.type) == [.errorPolicy])
  }
}

struct WindowTests {
  private let session: Session = {
    let export = ExportDescription(
      id: ExportID(rawValue: 1), name: "disk", sizeBytes: 1 << 20, flags: Exports.writable, imageOffset: 1 << 30)
    return Session(
      export: export, flags: export.flags(for: .structured), replies: .structured, clientKnowsBlockSizes: false,
      allocationContextID: 1)
  }()

  /// Behind the door a request names bytes of the image; the client's own bounds are what it was told.
  @Test func requestsAreMovedIntoTheImage() {
    for command in Command.ranged {
      let range = session.judge(command, 4096, 512)?.request?.range
      #expect(range?.lowerBound == (1 << 30) + 4096 && range?.upperBound == (1 << 30) + 4608)
      #expect(session.judge(command, (1 << 20) - 512, 512)?.request != nil)
      #expect(session.judge(command, 1 << 20, 512)?.refusal?.reason == .beyondEnd)
      #expect(session.judge(command, 1 << 30, 512)?.refusal?.reason == .beyondEnd)
      #expect(session.judge(command, .max - 511, 512)?.refusal?.reason == .beyondEnd)
    }
    #expect(session.judge(.flush)?.request?.offset == 0)
  }

  /// And replies name bytes of the export again, whatever the client had asked for.
  @Test func repliesAreMovedBack() throws {
    let encoder = ReplyEncoder(session: session)
    func offset(_ bytes: [UInt8], at position: Int) -> UInt64 {
      var scanner = Scanner(bytes.dropFirst(position))
      return scanner.number()
    }
    let inImage = (1 << 30) + 4096 as UInt64
    let data = encoded { encoder.encodeReadHeader(cookie: 1, offset: inImage, dataBytes: 512, into: &$0, at: $1) }
    #expect(offset(data, at: 20) == 4096)
    let hole = encoded {
      encoder.encodeHole(cookie: 1, offset: inImage, holeBytes: 512, isLast: true, into: &$0, at: $1)
    }
    #expect(offset(hole, at: 20) == 4096)
    let error = encoded {
      encoder.encodeError(cookie: 1, command: .read, error: .io, text: "", offset: inImage, into: &$0, at: $1)
    }
    #expect(offset(error, at: 26) == 4096)
    for asked in [1 << 20, 5 << 20, .max - 600] as [UInt64] {
      let refusal = try #require(session.judge(.read, asked, 512)?.refusal)
      let bytes = encoded { encoder.encodeRefusal(refusal, into: &$0, at: $1) }
      #expect(offset(bytes, at: 26 + refusal.text.utf8.count) == asked)
    }
  }
}
