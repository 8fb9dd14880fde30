// Columns of text: as wide as their widest cell, numbers to the right. Pure.

/// How a piece of text looks on a terminal. Elsewhere it is plain.
enum TextStyle: Sendable, Equatable {
  case plain, bold, dim, good, warning, bad

  /// SGR parameters (ECMA-48).
  fileprivate var code: String? {
    switch self {
    case .plain: nil
    case .bold: "1"
    case .dim: "2"
    case .good: "32"
    case .warning: "33"
    case .bad: "1;31"
    }
  }
}

/// A piece of a line.
struct StyledText: Sendable, Equatable {
  var text: String
  var style: TextStyle

  init(_ text: String, _ style: TextStyle = .plain) {
    // What clients chose (names, peers) must not move the cursor.
    self.text = withoutControlCharacters(text)
    self.style = style
  }

  func rendered(colors: Bool) -> String {
    guard colors, !text.isEmpty, let code = style.code else { return text }
    return "\u{1b}[\(code)m\(text)\u{1b}[0m"
  }
}

/// One line of styled pieces, cut to a width.
struct StyledLine: Sendable, Equatable {
  var pieces: [StyledText]

  init(_ pieces: [StyledText] = []) { self.pieces = pieces }
  init(_ text: String, _ style: TextStyle = .plain) { pieces = [StyledText(text, style)] }

  var width: Int { pieces.reduce(0) { $0 + $1.text.count } }

  /// Without blanks at its end.
  func rendered(width: Int, colors: Bool) -> String {
    var rest = width
    var result = ""
    for piece in trimmed {
      guard rest > 0 else { break }
      let cut = String(piece.text.prefix(rest))
      rest -= cut.count
      result += StyledText(cut, piece.style).rendered(colors: colors)
    }
    return result
  }

  private var trimmed: [StyledText] {
    var pieces = pieces
    while let last = pieces.last {
      let text = String(last.text.reversed().drop { $0 == " " }.reversed())
      pieces.removeLast()
      if !text.isEmpty {
        pieces.append(StyledText(text, last.style))
        break
      }
    }
    return pieces
  }
}

struct TextTable: Sendable {
  enum Alignment: Sendable { case left, right }

  struct Column: Sendable {
    var title: String
    var alignment: Alignment
    /// Longer cells are cut.
    var widthMax: Int

    init(_ title: String, _ alignment: Alignment = .right, widthMax: Int = 40) {
      self.title = title
      self.alignment = alignment
      self.widthMax = widthMax
    }
  }

  var columns: [Column]
  private(set) var rows: [[StyledText]] = []

  init(_ columns: [Column]) { self.columns = columns }

  /// - Precondition: as many cells as there are columns.
  mutating func add(_ cells: [StyledText]) {
    precondition(cells.count == columns.count, "a row has a cell for each column")
    rows.append(cells)
  }

  mutating func add(_ cells: [String]) { add(cells.map { StyledText($0) }) }

  /// The titles and the rows, two blanks between columns.
  var lines: [StyledLine] {
    let all = [columns.map { StyledText($0.title, .dim) }] + rows
    let widths = columns.indices.map { column in
      min(columns[column].widthMax, all.map { $0[column].text.count }.max() ?? 0)
    }
    return all.map { row in
      var pieces: [StyledText] = []
      for (index, cell) in row.enumerated() {
        let width = widths[index]
        let text = cell.text.count > width ? String(cell.text.prefix(max(0, width - 1))) + "…" : cell.text
        let room = String(repeating: " ", count: width - text.count)
        if index > 0 { pieces.append(StyledText("  ")) }
        switch columns[index].alignment {
        case .left: pieces += [StyledText(text, cell.style), StyledText(room)]
        case .right: pieces += [StyledText(room), StyledText(text, cell.style)]
        }
      }
      return StyledLine(pieces)
    }
  }

  /// For output that is no screen.
  var plainText: String { lines.map { $0.rendered(width: .max, colors: false) + "\n" }.joined() }
}
