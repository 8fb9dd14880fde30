// A place in a text that knows its line.

struct Cursor {
  private let scalars: [Unicode.Scalar]
  private var position = 0
  /// 1-based.
  private(set) var line = 1

  init(_ text: String) { scalars = Array(text.unicodeScalars) }

  /// Nil at the end.
  var next: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  mutating func advance() {
    guard let next else { return }
    if next == "\n" { line += 1 }
    position += 1
  }

  /// Steps over `text` when it stands here.
  mutating func skip(_ text: String) -> Bool {
    let wanted = text.unicodeScalars
    guard scalars[position...].starts(with: wanted) else { return false }
    for _ in wanted { advance() }
    return true
  }

  mutating func skipBlanks() { _ = take { $0 == " " || $0 == "\t" } }

  /// Blanks, line ends and comments.
  mutating func skipSpace() {
    while true {
      _ = take { " \t\r\n".unicodeScalars.contains($0) }
      guard next == "#" else { return }
      _ = take { $0 != "\n" }
    }
  }

  /// Everything from here that satisfies `condition`.
  mutating func take(while condition: (Unicode.Scalar) -> Bool) -> String {
    var text = ""
    while let next, condition(next) {
      text.unicodeScalars.append(next)
      advance()
    }
    return text
  }

  func mistake(_ text: String) -> Mistake { Mistake(line: line, text: text) }

  /// What stands here, for messages.
  var excerpt: String {
    guard let next else { return "the end of the file" }
    return next == "\n" || next == "\r" ? "the end of the line" : "\"\(next)\""
  }
}
