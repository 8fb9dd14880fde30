// On which line each key of a TOML text stands, and whether it is TOML at all. TOMLKit does not tell the first, and the
// parser below it stops the process on some malformed texts, so only well-formed ones reach it.

/// Where a value is: keys, and for elements of arrays `#0`, `#1`, …
typealias TOMLPath = [String]

/// 1-based line numbers of keys, tables and elements.
struct TOMLLines {
  private let lines: [TOMLPath: Int]

  /// - Throws: the first place that is not TOML, or a value of a kind that no key has (fractions, dates).
  init(_ text: String) throws(Mistake) {
    var scanner = Scanner(text)
    try scanner.document()
    lines = scanner.lines
  }

  /// The line of `path`, or of the nearest thing around it that has one.
  func line(of path: TOMLPath) -> Int {
    var path = path
    while !path.isEmpty {
      if let line = lines[path] { return line }
      path.removeLast()
    }
    return 1
  }
}

private struct Scanner {
  private var cursor: Cursor
  /// The table that keys belong to.
  private var table: TOMLPath = []
  /// How many elements each `[[array]]` has so far.
  private var elements: [TOMLPath: Int] = [:]
  var lines: [TOMLPath: Int] = [:]

  /// Lists in lists in lists: far above any real configuration, far below the end of the stack.
  private static let depthMax = 32

  init(_ text: String) { cursor = Cursor(text) }

  mutating func document() throws(Mistake) {
    cursor.skipSpace()
    while let character = cursor.next {
      if character == "[" { try header() } else { try keyAndValue(in: table, depth: 0) }
      cursor.skipBlanks()
      guard cursor.next == nil || cursor.next == "\n" || cursor.next == "\r" || cursor.next == "#" else {
        throw cursor.mistake("the line goes on with \(cursor.excerpt) where it should end")
      }
      cursor.skipSpace()
    }
  }

  /// `[a.b]` or `[[a.b]]`.
  private mutating func header() throws(Mistake) {
    let line = cursor.line
    cursor.advance()
    let isArray = cursor.skip("[")
    let keys = try dottedKey()
    guard cursor.skip("]"), !isArray || cursor.skip("]") else {
      throw cursor.mistake("the header is not closed; write \(isArray ? "[[\(keys[0])]]" : "[\(keys[0])]")")
    }
    var path: TOMLPath = []
    for key in keys.dropLast() { path = currentElement(path + [key]) }
    path.append(keys[keys.count - 1])
    if isArray {
      let index = elements[path, default: 0]
      elements[path] = index + 1
      note(path, line)
      path.append("#\(index)")
    }
    note(path, line)
    table = path
  }

  /// Of an array of tables the last element is meant.
  private func currentElement(_ path: TOMLPath) -> TOMLPath {
    guard let count = elements[path] else { return path }
    return path + ["#\(count - 1)"]
  }

  private mutating func keyAndValue(in parent: TOMLPath, depth: Int) throws(Mistake) {
    let line = cursor.line
    var path = parent
    for key in try dottedKey() {
      path.append(key)
      note(path, line)
    }
    guard cursor.skip("=") else {
      throw cursor.mistake("there is no \"=\" behind the key \"\(path[path.count - 1])\"")
    }
    cursor.skipBlanks()
    try value(path, depth: depth)
  }

  private mutating func value(_ path: TOMLPath, depth: Int) throws(Mistake) {
    guard depth < Self.depthMax else { throw cursor.mistake("more than \(Self.depthMax) lists in one another") }
    switch cursor.next {
    case "\"", "'": _ = try string()
    case "[": try array(path, depth: depth)
    case "{": try inlineTable(path, depth: depth)
    default: try plainValue()
    }
  }

  private mutating func plainValue() throws(Mistake) {
    let text = cursor.take { !"\r\n,]}#".unicodeScalars.contains($0) }.trimmingBlanks()
    if text.isEmpty { throw cursor.mistake("a value is missing") }
    guard text == "true" || text == "false" || isWholeNumber(text) else {
      throw cursor.mistake("\(text) is neither a whole number nor true or false; put text in quotes, \"\(text)\"")
    }
  }

  private mutating func array(_ path: TOMLPath, depth: Int) throws(Mistake) {
    cursor.advance()
    var index = 0
    cursor.skipSpace()
    while !cursor.skip("]") {
      let element = path + ["#\(index)"]
      note(element, cursor.line)
      try value(element, depth: depth + 1)
      index += 1
      cursor.skipSpace()
      guard cursor.skip(",") || cursor.next == "]" else {
        throw cursor.mistake("the list is not closed; write \"]\" behind its last element")
      }
      cursor.skipSpace()
    }
  }

  private mutating func inlineTable(_ path: TOMLPath, depth: Int) throws(Mistake) {
    cursor.advance()
    cursor.skipBlanks()
    if cursor.skip("}") { return }
    while true {
      try keyAndValue(in: path, depth: depth + 1)
      cursor.skipBlanks()
      if cursor.skip("}") { return }
      guard cursor.skip(",") else {
        throw cursor.mistake("the table is not closed; write \"}\" behind its last value, on the same line")
      }
    }
  }

  /// `a."b c".d` and the blanks around it; escapes are left as they are: such a key is found by its table.
  private mutating func dottedKey() throws(Mistake) -> [String] {
    var keys: [String] = []
    repeat {
      cursor.skipBlanks()
      if cursor.next == "\"" || cursor.next == "'" {
        keys.append(try string())
      } else {
        let key = cursor.take {
          $0.isASCII && ($0.properties.isAlphabetic || "0123456789-_".unicodeScalars.contains($0))
        }
        if key.isEmpty { throw cursor.mistake("\(cursor.excerpt) stands where a key should") }
        keys.append(key)
      }
      cursor.skipBlanks()
    } while cursor.skip(".")
    return keys
  }

  /// Any of the four kinds of strings; its text without quotes.
  private mutating func string() throws(Mistake) -> String {
    guard let quote = cursor.next else { return "" }
    let start = cursor
    let isLong = cursor.skip(String(repeating: String(quote), count: 3))
    if !isLong { cursor.advance() }
    let end = String(repeating: String(quote), count: isLong ? 3 : 1)
    var text = ""
    while !cursor.skip(end) {
      guard let character = cursor.next, isLong || character != "\n" else {
        throw start.mistake("the string has no closing \(end)")
      }
      text.unicodeScalars.append(character)
      cursor.advance()
      if character == "\\", quote == "\"", let escaped = cursor.next, escaped != "\n" || isLong {
        text.unicodeScalars.append(escaped)
        cursor.advance()
      }
    }
    // A long string may end with one or two quotes of its own.
    if isLong { while cursor.skip(String(quote)) {} }
    return text
  }

  /// The first mention counts.
  private mutating func note(_ path: TOMLPath, _ line: Int) {
    if lines[path] == nil { lines[path] = line }
  }
}

/// `42`, `-1000`, `0xff`, `0o17`, `0b1`.
private func isWholeNumber(_ text: String) -> Bool {
  let prefixes = ["0x", "0o", "0b", "+", "-"]
  let digits = text.dropFirst(prefixes.first { text.hasPrefix($0) }?.count ?? 0)
  return !digits.isEmpty && digits.unicodeScalars.allSatisfy { $0 == "_" || $0.properties.isASCIIHexDigit }
}

extension String {
  fileprivate func trimmingBlanks() -> String {
    var text = self
    while let last = text.last, last == " " || last == "\t" { text.removeLast() }
    return text
  }
}
