// Reads the keys of one table, notes what is wrong with them and, at the end, what nobody asked for.

/// Collects the mistakes of a whole file.
final class MistakeList {
  /// As messages name it; nil: the main file.
  let file: String?
  private(set) var mistakes: [Mistake] = []
  /// Keys that were looked for and are not there, as `table: key`.
  private(set) var unset: [String] = []

  init(file: String? = nil) { self.file = file }

  func note(_ line: Int, _ text: String) { mistakes.append(Mistake(file: file, line: line, text: text)) }

  func noteUnset(_ table: String, _ key: String) { unset.append("\(table): \(key)") }

  /// The order of equal lines must not depend on the order of a dictionary.
  var sorted: [Mistake] { mistakes.sorted { ($0.line, $0.text) < ($1.line, $1.text) } }

  /// The top of the file; nil when it is no TOML, which has been noted then.
  func parsing(_ bytes: [UInt8]) -> [String: ConfigurationNode]? {
    do throws(ConfigurationMistakes) {
      guard case .table(let entries) = try ConfigurationNode(parsing: bytes).value else {
        preconditionFailure("a TOML text is a table")
      }
      return entries
    } catch {
      for mistake in error.mistakes { note(mistake.line, mistake.text) }
      return nil
    }
  }
}

struct TableReader {
  /// How messages name the table: `[server]`, `export "root"`.
  var name: String
  let line: Int
  private let entries: [String: ConfigurationNode]
  private let mistakes: MistakeList
  private var known: Set<String> = []

  init(_ name: String, _ entries: [String: ConfigurationNode], line: Int, _ mistakes: MistakeList) {
    self.name = name
    self.entries = entries
    self.line = line
    self.mistakes = mistakes
  }

  /// The key is there, with a value of whatever kind.
  func has(_ key: String) -> Bool { entries[key] != nil }

  mutating func string(_ key: String) -> (value: String, line: Int)? {
    guard let node = node(key) else { return nil }
    guard case .string(let value) = node.value else { return wrongKind(key, node, "a string in quotes") }
    guard isText(value, key, node) else { return nil }
    return (value, node.line)
  }

  /// One of `choices`, by its name.
  mutating func choice<Choice>(_ key: String, _ choices: [(name: String, value: Choice)]) -> Choice? {
    guard let (text, line) = string(key) else { return nil }
    if let choice = choices.first(where: { $0.name == text }) { return choice.value }
    let guess = closest(to: text, in: choices.map(\.name)).map { "; did you mean \"\($0)\"?" }
    let names = choices.map { "\"\($0.name)\"" }
    mistake(
      line,
      "\"\(key)\" is \"\(text)\"\(guess ?? "; write \(names.dropLast().joined(separator: ", ")) or \(names.last ?? "")")"
    )
    return nil
  }

  /// A whole number of bytes, or a string with a unit. 0 is always allowed: it stands for what the key says it does.
  mutating func bytes(_ key: String, in range: ClosedRange<UInt64>) -> (value: UInt64, line: Int)? {
    guard let node = node(key) else { return nil }
    let value: UInt64
    switch node.value {
    case .integer(let number) where number >= 0: value = UInt64(number)
    case .integer(let number):
      mistake(node.line, "\"\(key)\" is \(number); write \(range.lowerBound) to \(range.upperBound), or 0")
      return nil
    case .string(let text):
      do throws(SizeMistake) { value = try ByteSize(parsing: text).bytes } catch {
        mistake(node.line, "\"\(key)\": \(error.clause)")
        return nil
      }
    case .table, .array, .boolean, .other:
      return wrongKind(key, node, "a number of bytes, 4096 or \"1MiB\"")
    }
    guard value == 0 || range.contains(value) else {
      mistake(node.line, "\"\(key)\" is \(value); write \(range.lowerBound) to \(range.upperBound), or 0")
      return nil
    }
    return (value, node.line)
  }

  /// The keys of `key = { … }`; empty when it is not there.
  mutating func inlineTable(_ key: String) -> TableReader {
    var entries: [String: ConfigurationNode] = [:]
    var own = line
    if let node = node(key) {
      own = node.line
      if case .table(let found) = node.value {
        entries = found
      } else {
        mistake(node.line, "\"\(key)\" must be a table, { … }, not \(node.value.kind)")
      }
    }
    return TableReader("\(name), \(key)", entries, line: own, mistakes)
  }

  mutating func boolean(_ key: String) -> Bool? {
    guard let node = node(key) else { return nil }
    guard case .boolean(let value) = node.value else { return wrongKind(key, node, "true or false") }
    return value
  }

  mutating func integer(_ key: String, in range: ClosedRange<Int>) -> Int? {
    guard let node = node(key) else { return nil }
    guard case .integer(let value) = node.value else { return wrongKind(key, node, "a whole number") }
    guard range.contains(value) else {
      mistake(node.line, "\"\(key)\" is \(value); write \(range.lowerBound) to \(range.upperBound)")
      return nil
    }
    return value
  }

  /// Nil when the key is missing or not a list; elements of another kind are noted and left out.
  mutating func strings(_ key: String) -> [(value: String, line: Int)]? {
    guard let node = node(key) else { return nil }
    guard case .array(let elements) = node.value else { return wrongKind(key, node, "a list of strings, [\"…\"]") }
    return elements.compactMap { element in
      guard case .string(let value) = element.value else {
        mistake(element.line, "\"\(key)\" must be a list of strings; one element is \(element.value.kind)")
        return nil
      }
      guard isText(value, key, element) else { return nil }
      return (value, element.line)
    }
  }

  func line(of key: String) -> Int? { entries[key]?.line }

  func isEmptyList(_ key: String) -> Bool {
    guard case .array(let elements)? = entries[key]?.value else { return false }
    return elements.isEmpty
  }

  /// The tables of `[[key]]`.
  mutating func tables(_ key: String) -> [(entries: [String: ConfigurationNode], line: Int)] {
    guard let node = node(key) else { return [] }
    let elements =
      switch node.value {
      case .array(let elements): elements
      default: [node]
      }
    return elements.compactMap { element in
      guard case .table(let entries) = element.value, case .array = node.value else {
        mistake(element.line, "\"\(key)\" must be tables with the header [[\(key)]]")
        return nil
      }
      return (entries, element.line)
    }
  }

  /// The table `[key]`.
  mutating func table(_ key: String) -> (entries: [String: ConfigurationNode], line: Int)? {
    guard let node = node(key) else { return nil }
    guard case .table(let entries) = node.value else {
      return wrongKind(key, node, "a table with the header [\(key)]")
    }
    return (entries, node.line)
  }

  func mistake(_ line: Int, _ text: String) { mistakes.note(line, name.isEmpty ? text : "\(name): \(text)") }

  /// Notes every key that was not asked for.
  func finish() {
    for (key, node) in entries where !known.contains(key) {
      let guess = closest(to: key, in: known).map { "; did you mean \"\($0)\"?" } ?? ""
      mistake(node.line, "unknown key \"\(key)\"\(guess)")
    }
  }

  /// A key that somebody else reads.
  mutating func expect(_ key: String) { known.insert(key) }

  private mutating func node(_ key: String) -> ConfigurationNode? {
    known.insert(key)
    if entries[key] == nil { mistakes.noteUnset(name, key) }
    return entries[key]
  }

  /// NBD strings and paths end at a NUL. TOML has none, JSON may.
  private func isText(_ value: String, _ key: String, _ node: ConfigurationNode) -> Bool {
    guard value.utf8.contains(0) else { return true }
    mistake(node.line, "\"\(key)\" has a NUL byte; leave it out")
    return false
  }

  private func wrongKind<Wanted>(_ key: String, _ node: ConfigurationNode, _ wanted: String) -> Wanted? {
    mistake(node.line, "\"\(key)\" must be \(wanted), not \(node.value.kind)")
    return nil
  }
}
