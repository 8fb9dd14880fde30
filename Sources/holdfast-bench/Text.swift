// Numbers, tables and JSON as text. Pure; without Foundation.

import Reports

/// `value` with `decimals` digits after the point.
func fixed(_ value: Double, _ decimals: Int) -> String {
  guard value.isFinite else { return "-" }
  var scale = 1.0
  for _ in 0..<decimals { scale *= 10 }
  let scaled = (value.magnitude * scale).rounded()
  guard scaled < 1e18 else { return "\(value)" }
  let digits = String(UInt64(scaled))
  let sign = value < 0 && scaled > 0 ? "-" : ""
  guard decimals > 0 else { return sign + digits }
  let padded = String(repeating: "0", count: max(0, decimals + 1 - digits.count)) + digits
  return "\(sign)\(padded.dropLast(decimals)).\(padded.suffix(decimals))"
}

/// Three digits that matter: 0.123, 1.23, 12.3, 123, 12300.
func brief(_ value: Double) -> String {
  switch value.magnitude {
  case ..<1: fixed(value, 3)
  case ..<10: fixed(value, 2)
  case ..<100: fixed(value, 1)
  default: fixed(value, 0)
  }
}

/// A Markdown table whose columns line up; the first column stands left, the others right.
struct Table {
  var header: [String]
  var rows: [[String]] = []

  init(_ header: [String]) { self.header = header }

  var text: String {
    let all = [header] + rows
    let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
    func line(_ row: [String]) -> String {
      let cells = row.indices.map { column in
        let space = String(repeating: " ", count: widths[column] - row[column].count)
        return column == 0 ? row[column] + space : space + row[column]
      }
      return "| " + cells.joined(separator: " | ") + " |\n"
    }
    let rule = widths.enumerated().map { column, width in
      String(repeating: "-", count: max(1, column == 0 ? width : width - 1)) + (column == 0 ? "" : ":")
    }
    return line(header) + "| " + rule.joined(separator: " | ") + " |\n" + rows.map(line).joined()
  }
}

/// What can be written as JSON; members keep their order.
enum JSON {
  case text(String)
  case number(Double)
  case bool(Bool)
  case list([JSON])
  case members([(String, JSON)])

  /// Lists of plain values on one line, everything else indented by two.
  func text(indent: Int = 0) -> String {
    let inner = String(repeating: " ", count: indent + 2)
    let outer = String(repeating: " ", count: indent)
    switch self {
    case .text(let text): return jsonString(text)
    case .number(let number):
      guard number.isFinite else { return "null" }
      return number == number.rounded() && number.magnitude < 1e15 ? String(Int64(number)) : fixed(number, 4)
    case .bool(let bool): return bool ? "true" : "false"
    case .list(let items):
      guard items.contains(where: { $0.isNested }) else {
        return "[" + items.map { $0.text() }.joined(separator: ", ") + "]"
      }
      return "[\n" + items.map { inner + $0.text(indent: indent + 2) }.joined(separator: ",\n") + "\n\(outer)]"
    case .members(let members):
      let lines = members.map { "\(inner)\(jsonString($0.0)): \($0.1.text(indent: indent + 2))" }
      return lines.isEmpty ? "{}" : "{\n" + lines.joined(separator: ",\n") + "\n\(outer)}"
    }
  }

  private var isNested: Bool {
    switch self {
    case .list, .members: true
    case .text, .number, .bool: false
    }
  }
}
