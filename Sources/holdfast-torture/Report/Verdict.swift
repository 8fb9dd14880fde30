// What a run came to, for people and for programs.

import Torture

struct Verdict: Sendable {
  var settings: Settings
  var advertised: Advertised
  var notes: [String]
  var tally: Tally
  var seconds = 0.0
  var findings: [Finding] = []
  /// Epochs in which something of the category was found.
  var epochsWith: [Torture.Category: Int] = [:]
  var isViolated = false
  var wasInterrupted = false
  /// What ended the run before its time.
  var failure: String?

  init(settings: Settings, advertised: Advertised, notes: [String], tally: Tally) {
    self.settings = settings
    self.advertised = advertised
    self.notes = notes
    self.tally = tally
  }

  /// Why nothing can be said, unless a violation was found.
  var reason: String? {
    if let failure { return failure }
    if tally.succeeded[.read] == nil || tally.succeeded[.write] == nil {
      return "not one READ and one WRITE succeeded"
    }
    return tally.errors.values.reduce(0, +) * 2 < tally.requests ? nil : "most requests were answered with an error"
  }

  var word: Word { isViolated ? .violation : reason == nil ? .clean : .notJudged }

  /// What was looked at in this run.
  var categories: [Torture.Category] {
    Torture.Category.allCases.filter { category in
      switch category {
      case .linearizability, .torn, .atomicity: tally.succeeded[.read] != nil && tally.succeeded[.write] != nil
      case .status: tally.succeeded[.status] != nil
      case .trimmed: tally.succeeded[.trim] != nil
      case .durability: tally.kills > 0 && tally.syncs > 0
      case .lost: tally.kills > 0
      }
    }
  }

  private func outcome(_ category: Torture.Category) -> String {
    guard let epochs = epochsWith[category] else { return "ok" }
    let isCounted = category.isPromised || settings.isStrict
    return
      "\(isCounted ? "VIOLATED" : "not so (the protocol does not promise it)") in \(epochs) epoch\(epochs == 1 ? "" : "s")"
  }
}

// MARK: - For people

extension Verdict {
  var text: String {
    var lines = notes.map { "note: \($0)" }
    let size = settings.shape
    lines.append(
      "\(tally.requests) requests over \(settings.connections) connections, \(settings.depth) in flight on each, "
        + "in \(decimal(seconds, 1)) s (\(Int(Double(tally.requests) / max(seconds, 0.001)))/s); seed \(settings.seed)")
    lines.append(
      "region \(size.regionBytes) bytes, blocks of \(size.blockBytes), lengths \(size.lengthBytesMin) to "
        + "\(size.lengthBytesMax)\(size.longEvery > 0 ? " and some to \(size.longBytesMax)" : "")")
    let kinds = Verb.allCases.compactMap { verb in tally.byVerb[verb].map { "\(verb.rawValue) \($0)" } }
    lines.append("sent: \(kinds.joined(separator: ", "))")
    let errors = Verb.allCases.compactMap { verb in tally.errors[verb].map { "\(verb.rawValue) \($0)" } }
    if !errors.isEmpty { lines.append("answered with an error: \(errors.joined(separator: ", "))") }
    if tally.kills > 0 { lines.append("kills: \(tally.kills), \(tally.unanswered) requests were not answered") }
    lines.append("")
    for category in categories { lines.append("  \(padded(category.title, 40)) \(outcome(category))") }
    for finding in findings { lines += ["", finding.text] }
    lines += ["", "verdict: \(sentence)"]
    return lines.joined(separator: "\n") + "\n"
  }

  private var sentence: String {
    if isViolated { return "violation" + (failure.map { "; the run ended early: \($0)" } ?? "") }
    if let reason { return "could not judge: \(reason)" }
    return (findings.isEmpty ? "clean" : "no violation of the protocol; see above for what it does not promise")
      + (wasInterrupted ? " (ended early)" : "")
  }
}

/// The outcome in a word, for programs, and as an exit status.
enum Word: String, Sendable {
  case clean
  case violation
  case notJudged = "not judged"

  var exitCode: Int32 {
    switch self {
    case .clean: 0
    case .violation: 1
    case .notJudged: 2
    }
  }
}

extension Finding {
  var text: String {
    let head = epoch > 0 ? "\(category.title), epoch \(epoch): \(summary)" : summary
    let rows = [["sent ms", "answered", "conn", "command", "bytes", "result"]] + witness.map(\.cells)
    return head + "\n" + table(rows)
  }
}

extension WitnessLine {
  fileprivate var cells: [String] {
    [
      sent.map { decimal($0, 3) } ?? "before", answered.map { decimal($0, 3) } ?? "-",
      connection.map { $0 < 0 ? "check" : String($0) } ?? "-", command, "\(range.lowerBound)..<\(range.upperBound)",
      result,
    ]
  }
}

func table(_ rows: [[String]]) -> String {
  let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
  return rows.map { row in
    let cells = row.indices.map { $0 == row.count - 1 ? row[$0] : padded(row[$0], widths[$0]) }
    return "  " + cells.joined(separator: "  ")
  }.joined(separator: "\n")
}

func padded(_ text: String, _ width: Int) -> String {
  text + String(repeating: " ", count: max(0, width - text.count))
}

/// Without Foundation.
func decimal(_ value: Double, _ places: Int) -> String {
  var factor = 1.0
  for _ in 0..<places { factor *= 10 }
  let scaled = Int((value * factor).rounded())
  let whole = scaled / Int(factor)
  let digits = String(scaled % Int(factor))
  return places == 0 ? String(whole) : "\(whole)." + String(repeating: "0", count: places - digits.count) + digits
}
