// Reads the keys of one table, notes what is wrong with them and, at the end, what nobody asked for.

/// Collects the mistakes of a whole file.
final class MistakeList {
  private(set) var mistakes: [Mistake] = []

  func note(_ line: Int, _ text: String) { mistakes.append(Mistake(line: line, text: text)) }
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

  mutating func string(_ key: String) -> (value: String, line: Int)? {
    guard let node = node(key) else { return nil }
    guard case .string(let value) = node.value else { return wrongKind(key, node, "a string in quotes") }
    return (value, node.line)
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
      return (value, element.line)
    }
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

  private mutating func node(_ key: String) -> ConfigurationNode? {
    known.insert(key)
    return entries[key]
  }

  private func wrongKind<Wanted>(_ key: String, _ node: ConfigurationNode, _ wanted: String) -> Wanted? {
    mistake(node.line, "\"\(key)\" must be \(wanted), not \(node.value.kind)")
    return nil
  }
}
