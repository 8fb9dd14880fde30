// The lines of the admin socket: what is understood, what is refused and how it is said, and that no bytes do any harm.

import Testing

@testable import holdfast

private func parse(_ text: String) -> Result<AdminRequest, CommandFailure> {
  var id: JSON?
  return Result { () throws(CommandFailure) in try AdminRequest(parsing: Array(text.utf8), id: &id) }
}

private func mistake(_ text: String) -> String? {
  switch parse(text) {
  case .success: nil
  case .failure(let failure): failure.message
  }
}

@Suite struct AdminProtocolTests {
  @Test func aRequestIsItsCommandAndItsKeys() throws {
    let request = try parse(
      #"{"schema": 1, "id": [7], "command": "export-remove", "export": "a\u00e9", "mode": "drain", "wait": 5}"#
    ).get()
    #expect(request.command == .exportRemove)
    #expect(request.id == [7])
    #expect(request.keys.keys.sorted() == ["export", "mode", "wait"])
    #expect(request.keys.text("export") == "aé")
    for command in AdminCommand.allCases {
      #expect(try parse(#"{"command": "\#(command.rawValue)"}"#).get().command == command)
    }
  }

  @Test(arguments: [
    ("", "the line cannot be read: it is not JSON; write one JSON object, such as {\"command\": \"status\"}"),
    ("status", "the line cannot be read: it is not JSON; write one JSON object, such as {\"command\": \"status\"}"),
    (
      "{\"command\": \"status\"",
      "the line cannot be read: it is not JSON; write one JSON object, such as {\"command\": \"status\"}"
    ),
    ("[\"status\"]", "the line is no JSON object; write one, such as {\"command\": \"status\"}"),
    ("{}", "\"command\" is missing; it is one of \(AdminCommand.allCases.map(\.rawValue).joined(separator: ", "))"),
    (
      "{\"command\": 7}",
      "\"command\" is missing; it is one of \(AdminCommand.allCases.map(\.rawValue).joined(separator: ", "))"
    ),
    ("{\"command\": \"exprt-add\"}", "there is no command \"exprt-add\"; did you mean \"export-add\"?"),
    (
      "{\"command\": \"fly\"}",
      "there is no command \"fly\"; it is one of \(AdminCommand.allCases.map(\.rawValue).joined(separator: ", "))"
    ),
    ("{\"schema\": 2, \"command\": \"status\"}", "this daemon speaks schema 1; leave \"schema\" out, or write 1"),
    ("{\"schema\": \"1\", \"command\": \"status\"}", "this daemon speaks schema 1; leave \"schema\" out, or write 1"),
  ])
  func aBadLineIsRefusedWithWhatToWrite(line: String, message: String) {
    #expect(mistake(line) == message)
  }

  @Test func keysAreReadAsInAConfiguration() throws {
    func message(_ line: String) throws -> String? {
      do throws(CommandFailure) {
        _ = try (try parse(line).get()).read { $0.requiredString("export") }
        return nil
      } catch { return error.message }
    }
    #expect(try message(#"{"command": "export-resume"}"#) == "\"export\" is missing")
    #expect(
      try message(#"{"command": "export-resume", "export": 3}"#)
        == "\"export\" must be a string in quotes, not a number")
    #expect(
      try message(#"{"command": "export-resume", "export": null}"#)
        == "\"export\" must be a string in quotes, not a null")
    #expect(
      try message(#"{"command": "export-resume", "export": "a", "exprt": "b"}"#)
        == "unknown key \"exprt\"; did you mean \"export\"?")
    #expect(try message(#"{"command": "export-resume", "export": "a"}"#) == nil)
  }

  @Test func theIdComesBackWithWhateverIsWrong() {
    var id: JSON?
    _ = try? AdminRequest(parsing: Array(#"{"id": "x1", "command": "fly"}"#.utf8), id: &id)
    #expect(id == "x1")
    let failure = CommandFailure(.usage, "no")
    #expect(
      AdminReply.failure(failure, id: id).text
        == #"{"schema": 1, "ok": false, "id": "x1", "error": {"status": 64, "message": "no"}}"#)
    #expect(AdminReply.success(["a": 1], id: nil).text == #"{"schema": 1, "ok": true, "result": {"a": 1}}"#)
  }

  @Test func whatIsNestedTooDeeplyIsNotParsed() {
    let deep = String(repeating: "[", count: 30_000) + String(repeating: "]", count: 30_000)
    #expect(
      mistake("{\"command\": \(deep)}")
        == "the line cannot be read: more than 16 objects and lists are in one another; write one JSON object, such as {\"command\": \"status\"}"
    )
    // Brackets in strings are text.
    let quoted = "\"\(String(repeating: "[{", count: 100))\\\"[[[[\""
    #expect(mistake("{\"command\": \"status\", \"id\": \(quoted)}") == nil)
  }

  @Test func brokenTextIsToldFromBrokenJSON() {
    var id: JSON?
    let bytes = Array("{\"command\": \"".utf8) + [0xff, 0xc0] + Array("\"}".utf8)
    #expect(throws: CommandFailure.self) { try AdminRequest(parsing: bytes, id: &id) }
    #expect(mistake("{\"command\": \"\u{0}\"}") != nil)
  }

  /// Lines near the right ones, from one seed: every one is either understood or refused.
  @Test(arguments: [1, 2, UInt64.random(in: 3 ... .max)]) func noLineDoesHarm(seed: UInt64) {
    var random = SeededNumbers(state: seed)
    let seeds = [
      #"{"schema": 1, "id": {"a": [1, 2.5e3, null, true]}, "command": "export-add", "name": "x", "path": "/srv/x.img", "size": "20G"}"#,
      #"{"command": "connection-kill", "connection": 18446744073709551615}"#,
      #"{"command": "export-resize", "export": "\ud83d\ude00\u0000", "size": -1e999}"#,
    ]
    let spices: [[UInt8]] = [
      Array("{".utf8), Array("}".utf8), Array("[".utf8), Array("\"".utf8), Array("\\".utf8), Array("\\u12".utf8),
      Array("1e99999".utf8),
      Array("-".utf8), [0], [0xff], [0xc3], [0xef, 0xbb, 0xbf], Array("nul".utf8), Array(",,".utf8),
      Array("99999999999999999999".utf8),
    ]
    for round in 0..<3000 {
      var line = Array(seeds[Int(random.next() % UInt64(seeds.count))].utf8)
      for _ in 0..<(1 + random.next() % 4) {
        let place = Int(random.next() % UInt64(line.count + 1))
        switch random.next() % 4 {
        case 0: line.insert(contentsOf: spices[Int(random.next() % UInt64(spices.count))], at: place)
        case 1 where place < line.count: line[place] = UInt8(truncatingIfNeeded: random.next())
        case 2 where place < line.count: line.removeSubrange(place..<min(line.count, place + Int(random.next() % 8)))
        default: line = Array(line.prefix(place))
        }
        if line.isEmpty { line = [0x20] }
      }
      var id: JSON?
      do throws(CommandFailure) {
        let request = try AdminRequest(parsing: line, id: &id)
        // The reply can be made, and read again.
        let reply = AdminReply.success(.string(request.command.rawValue), id: id)
        let read = try? JSON(parsing: Array(reply.text.utf8))
        #expect(read?["ok"] == true, "seed \(seed) round \(round): \(reply.text)")
      } catch {
        #expect(!error.message.isEmpty, "seed \(seed) round \(round)")
      }
    }
  }
}

@Suite struct LineBufferTests {
  @Test func linesComeInAnyPieces() {
    var lines = LineBuffer()
    lines.append(Array("one\ntwo".utf8))
    #expect(lines.nextLine() == Array("one".utf8))
    #expect(lines.nextLine() == nil)
    lines.append(Array("\r\n\nthree".utf8))
    #expect(lines.nextLine() == Array("two".utf8))
    #expect(lines.nextLine() == [])
    #expect(lines.nextLine() == nil)
    #expect(lines.takeRest() == Array("three".utf8))
    #expect(lines.isEmpty)
  }

  @Test func aLineThatIsTooLongIsNoticedBeforeItEnds() {
    var lines = LineBuffer(lineBytesMax: 10)
    lines.append(Array("0123456789".utf8))
    #expect(lines.nextLine() == nil)
    #expect(!lines.isTooLong)
    lines.append(Array("x".utf8))
    #expect(lines.nextLine() == nil)
    #expect(lines.isTooLong)
  }
}

@Suite struct JSONTests {
  @Test func whatIsWrittenIsReadAgain() throws {
    let value: JSON = [
      "a": [1, -2, 2.5, true, nil, "x\"\\\n\u{1}é"], "b": ["c": [], "d": .object([])], "big": .integer(.max),
    ]
    #expect(try JSON(parsing: Array(value.text.utf8)) == value)
  }

  @Test func wholeNumbersAreWholeAndOthersAreNot() throws {
    func parse(_ text: String) throws -> JSON { try JSON(parsing: Array(text.utf8)) }
    #expect(try parse("9223372036854775807").integer == .max)
    #expect(try parse("9223372036854775808").integer == nil)
    #expect(try parse("3.0").integer == 3)
    #expect(try parse("3.5").integer == nil)
    #expect(try parse("true").integer == nil)
    #expect(try parse("1").boolean == nil)
  }
}

/// xorshift64*.
private struct SeededNumbers {
  var state: UInt64

  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_f491_4f6c_dd1d
  }
}
