// JSON as a value, and its text on one line (RFC 8259).

import Reports

/// One JSON value. Members of an object keep the order in which they were written.
enum JSON: Equatable, Sendable {
  indirect case object([Member])
  indirect case array([JSON])
  case string(String)
  case integer(Int)
  case number(Double)
  case boolean(Bool)
  case null
  /// Text that is JSON already.
  case text(String)

  struct Member: Equatable, Sendable {
    var name: String
    var value: JSON
  }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
  init(stringLiteral value: String) { self = .string(value) }
  init(integerLiteral value: Int) { self = .integer(value) }
  init(floatLiteral value: Double) { self = .number(value) }
  init(booleanLiteral value: Bool) { self = .boolean(value) }
  init(arrayLiteral elements: JSON...) { self = .array(elements) }
  init(dictionaryLiteral elements: (String, JSON)...) {
    self = .object(elements.map { Member(name: $0.0, value: $0.1) })
  }
  init(nilLiteral: ()) { self = .null }

  /// What JSON's readers can take as a whole number, at any rate.
  init(_ value: UInt64) { self = .integer(Int(clamping: value)) }
  init(_ value: Int64) { self = .integer(Int(value)) }
}

extension JSON {
  /// Without a line end.
  var text: String {
    switch self {
    case .object(let members):
      "{" + members.map { "\(jsonString($0.name)): \($0.value.text)" }.joined(separator: ", ") + "}"
    case .array(let elements): "[" + elements.map(\.text).joined(separator: ", ") + "]"
    case .string(let value): jsonString(value)
    case .integer(let value): "\(value)"
    // JSON has neither infinity nor NaN.
    case .number(let value): value.isFinite ? "\(value)" : "null"
    case .boolean(let value): value ? "true" : "false"
    case .null: "null"
    case .text(let text): text
    }
  }

  // MARK: Reading; nothing there is nil, as is something of another kind.

  subscript(name: String) -> JSON? {
    guard case .object(let members) = self else { return nil }
    return members.last { $0.name == name }?.value
  }

  var elements: [JSON] {
    if case .array(let elements) = self { elements } else { [] }
  }

  var string: String? {
    if case .string(let value) = self { value } else { nil }
  }

  var integer: Int? {
    switch self {
    case .integer(let value): value
    case .number(let value): Int(exactly: value)
    case .object, .array, .string, .boolean, .null, .text: nil
    }
  }

  var number: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    case .object, .array, .string, .boolean, .null, .text: nil
    }
  }

  var boolean: Bool? {
    if case .boolean(let value) = self { value } else { nil }
  }
}
