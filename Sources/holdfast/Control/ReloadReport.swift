// What reading the configuration again has changed.

/// Names of exports, and what an operator should know.
struct ReloadReport: Sendable, Equatable {
  var added: [String] = []
  /// Who has one of these keeps it until it disconnects.
  var removed: [String] = []
  var changed: [String] = []
  /// New clients get the new one; who has the old one keeps it until it disconnects.
  var replaced: [String] = []
  var unchanged: [String] = []
  /// Sentences.
  var notices: [String] = []

  init() {}

  init(_ change: ConfigurationChange) {
    added = change.added.map(\.name)
    removed = change.removed
    changed = change.changed.map(\.name)
    replaced = change.replaced.map(\.name)
    unchanged = change.unchanged
    notices = change.notices
  }

  /// All of it for people, a sentence each.
  var lines: [String] {
    let parts: [(String, [String])] = [
      ("added", added), ("removed", removed), ("changed", changed), ("replaced", replaced),
    ]
    let lines = parts.filter { !$0.1.isEmpty }.map { verb, names in
      "\(verb) \(names.count == 1 ? "export" : "exports") \(names.map { "\"\($0)\"" }.joined(separator: ", "))"
    }
    return (lines.isEmpty ? ["no export has changed"] : lines) + notices
  }
}
