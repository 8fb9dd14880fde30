// docs/protocol.md says what is true: every name of the wire is in it, every rule has a row, and every test that it names
// exists.

import Foundation
import Testing

@testable import NBDProtocol

struct ProtocolDocumentTests {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  struct Row {
    var id: String
    var supported: String
    var since: String
    var tests: [String]
    var isPending: Bool
  }

  static func document() throws -> String {
    try String(contentsOf: root.appendingPathComponent("docs/protocol.md"), encoding: .utf8)
  }

  /// `| A1.2 | rule | supported | since | tests |`
  static func rows() throws -> [Row] {
    try document().split(separator: "\n").compactMap { line in
      let cells = line.split(separator: "|", omittingEmptySubsequences: false).map {
        $0.trimmingCharacters(in: .whitespaces)
      }
      guard cells.count > 2, cells[1].wholeMatch(of: /A\d+\.\d+/) != nil else { return nil }
      try #require(cells.count == 7, "\(line)")
      let tests = cells[5].matches(of: /`(\w+)`/).map { String($0.output.1) }
      return Row(
        id: cells[1], supported: cells[3], since: cells[4], tests: tests.filter { $0 != "pending" },
        isPending: tests.contains("pending"))
    }
  }

  @Test func documentNamesEveryConstant() throws {
    let words = Set(try Self.document().matches(of: /\w+/).map { String($0.output) })
    let names =
      Option.allCases.map(\.specName) + OptionReplyType.allCases.map(\.specName) + InfoType.allCases.map(\.specName)
      + Command.allCases.map(\.specName) + NBDError.allCases.map(\.specName) + ReplyType.allCases.map(\.specName)
      + TransmissionFlags.specNames.map(\.name) + CommandFlags.specNames.map(\.name)
    for name in names { #expect(words.contains(name), "docs/protocol.md does not mention \(name)") }
  }

  @Test func everyFlagHasAName() {
    // Bits without gaps, so that a new flag without a name is missed here.
    let transmission = TransmissionFlags(TransmissionFlags.specNames.map(\.flag))
    #expect(transmission.rawValue == 0xfff)
    #expect(CommandFlags(CommandFlags.specNames.map(\.flag)) == CommandFlags.all)
  }

  @Test func documentHasARowForEveryRule() throws {
    let counts = [1: 8, 2: 7, 3: 21, 4: 9, 5: 8, 6: 13, 7: 20, 8: 6, 9: 6]
    let expected = counts.flatMap { section, count in (1...count).map { "A\(section).\($0)" } }
    #expect(try Self.rows().map(\.id).sorted() == expected.sorted())
  }

  @Test func supportedRulesNameTheirTests() throws {
    for row in try Self.rows() {
      switch row.supported {
      case "yes", "partly":
        #expect(row.since.wholeMatch(of: /\d+\.\d+\.\d+/) != nil, "\(row.id) does not say since when")
        #expect(!row.tests.isEmpty || row.isPending, "\(row.id) is supported but names no test")
      case "no", "not yet": #expect(row.since == "-", "\(row.id) is not supported, so it has no version")
      default: Issue.record("\(row.id): '\(row.supported)' is none of yes, partly, no, not yet")
      }
    }
  }

  @Test func testsThatAreNamedExist() throws {
    let tests = Self.root.appendingPathComponent("Tests")
    let files = FileManager.default.enumerator(at: tests, includingPropertiesForKeys: nil)
    var functions: Set<String> = []
    while let file = files?.nextObject() as? URL {
      guard file.pathExtension == "swift" else { continue }
      let source = try String(contentsOf: file, encoding: .utf8)
      functions.formUnion(source.matches(of: /func (\w+)\(/).map { String($0.output.1) })
    }
    for row in try Self.rows() {
      for test in row.tests {
        let exists = functions.contains(test)
        #expect(exists, "\(row.id): there is no test \(test)")
      }
    }
  }
}
