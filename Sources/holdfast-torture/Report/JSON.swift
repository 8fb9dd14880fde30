// The verdict for programs: one object on stdout, with the version of its form.

import Reports
import Torture

enum JSON {
  case string(String)
  case number(Double)
  case integer(Int)
  case bool(Bool)
  case null
  case array([JSON])
  case object([(String, JSON)])

  var text: String {
    switch self {
    case .string(let text): jsonString(text)
    case .number(let value): decimal(value, 3)
    case .integer(let value): String(value)
    case .bool(let value): value ? "true" : "false"
    case .null: "null"
    case .array(let items): "[" + items.map(\.text).joined(separator: ",") + "]"
    case .object(let members):
      "{" + members.map { jsonString($0.0) + ":" + $0.1.text }.joined(separator: ",") + "}"
    }
  }
}

extension JSON {
  /// What is said when there was nothing to judge.
  static func notJudged(_ reason: String, _ uri: String) -> JSON {
    .object([
      ("schema", .integer(Verdict.schemaVersion)), ("tool", .string("holdfast-torture")),
      ("verdict", .string(Word.notJudged.rawValue)), ("reason", .string(reason)), ("uri", .string(uri)),
    ])
  }
}

extension Verdict {
  /// Goes up when a member changes its meaning or goes away.
  static let schemaVersion = 1

  var json: JSON {
    .object([
      ("schema", .integer(Verdict.schemaVersion)),
      ("tool", .string("holdfast-torture")),
      ("verdict", .string(word.rawValue)),
      ("reason", (failure ?? (isViolated ? nil : reason)).map(JSON.string) ?? .null),
      ("interrupted", .bool(wasInterrupted)),
      ("uri", .string(settings.uri)),
      ("seed", .string(String(settings.seed))),
      ("seconds", .number(seconds)),
      ("connections", .integer(settings.connections)),
      ("depth", .integer(settings.depth)),
      ("region", .integer(settings.shape.regionBytes)),
      ("block", .integer(settings.shape.blockBytes)),
      ("requests", .integer(tally.requests)),
      ("sent", counts(tally.byVerb)),
      ("errors", counts(tally.errors)),
      ("unanswered", .integer(tally.unanswered)),
      ("kills", .integer(tally.kills)),
      ("strict", .bool(settings.isStrict)),
      ("notes", .array(notes.map(JSON.string))),
      (
        "checks",
        .array(
          categories.map { category in
            .object([
              ("name", .string(category.rawValue)), ("promised", .bool(category.isPromised)),
              ("ok", .bool(epochsWith[category] == nil)), ("epochs", .integer(epochsWith[category] ?? 0)),
            ])
          })
      ),
      ("findings", .array(findings.map(\.json))),
    ])
  }

  private func counts(_ counts: [Verb: Int]) -> JSON {
    .object(Verb.allCases.compactMap { verb in counts[verb].map { (verb.rawValue, .integer($0)) } })
  }
}

extension Finding {
  var json: JSON {
    .object([
      ("category", .string(category.rawValue)), ("promised", .bool(category.isPromised)),
      ("epoch", .integer(epoch)), ("summary", .string(summary)), ("witness", .array(witness.map(\.json))),
    ])
  }
}

extension WitnessLine {
  fileprivate var json: JSON {
    .object([
      ("sent_ms", sent.map(JSON.number) ?? .null), ("answered_ms", answered.map(JSON.number) ?? .null),
      ("connection", connection.map(JSON.integer) ?? .null), ("command", .string(command)),
      ("offset", .integer(Int(range.lowerBound))), ("length", .integer(Int(range.upperBound - range.lowerBound))),
      ("result", .string(result)),
    ])
  }
}
