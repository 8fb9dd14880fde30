// TOML text to a tree of values that know their lines. The only user of TOMLKit.

import TOMLKit

/// One mistake in a file.
struct Mistake: Error, Equatable {
  /// Nil: the main file.
  var file: String?
  /// 1-based.
  var line: Int
  /// What is wrong and what to write instead.
  var text: String
}

/// A value and where it stands.
struct ConfigurationNode {
  indirect enum Value {
    case table([String: ConfigurationNode])
    case array([ConfigurationNode])
    case string(String)
    case integer(Int)
    case boolean(Bool)
    /// What configurations have no use for; by the name of its type.
    case other(String)
  }
  var value: Value
  var line: Int
}

extension ConfigurationNode {
  /// Far above any real configuration.
  static let bytesMax = 1 << 20

  /// - Throws: what makes the text no TOML, or none that we have a use for.
  init(parsing bytes: [UInt8]) throws(ConfigurationMistakes) {
    guard bytes.count <= Self.bytesMax else {
      throw ConfigurationMistakes(1, "the file has more than \(Self.bytesMax) bytes; is it a configuration?")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw ConfigurationMistakes(Self.lineOfBrokenText(bytes), "the text is not UTF-8")
    }
    // TOMLKit hands strings on as C strings: a NUL, plain or escaped, would cut them off unseen.
    if let line = Self.lineOfNUL(text) { throw ConfigurationMistakes(line, "NUL has no place in a configuration") }
    let lines: TOMLLines
    do throws(Mistake) { lines = try TOMLLines(text) } catch { throw ConfigurationMistakes(mistakes: [error]) }
    do {
      self.init(try TOMLTable(string: text), at: [], lines)
    } catch let error as TOMLParseError {
      throw ConfigurationMistakes(error.source.begin.line, error.description)
    } catch {
      throw ConfigurationMistakes(1, "\(error)")
    }
  }

  private init(_ table: TOMLTable, at path: TOMLPath, _ lines: TOMLLines) {
    var entries: [String: ConfigurationNode] = [:]
    for key in table.keys {
      guard let value = table[key] else { continue }
      entries[key] = ConfigurationNode(value, at: path + [key], lines)
    }
    value = .table(entries)
    line = lines.line(of: path)
  }

  private init(_ node: any TOMLValueConvertible, at path: TOMLPath, _ lines: TOMLLines) {
    line = lines.line(of: path)
    switch node.type {
    case .table:
      self = node.table.map { ConfigurationNode($0, at: path, lines) } ?? Self(value: .other("table"), line: line)
    case .array:
      let elements = node.array.map { array in (0..<array.count).map { array[$0] } } ?? []
      value = .array(elements.enumerated().map { ConfigurationNode($1, at: path + ["#\($0)"], lines) })
    case .string: value = node.string.map { .string($0) } ?? .other("string")
    case .int: value = node.int.map { .integer($0) } ?? .other("number")
    case .bool: value = node.bool.map { .boolean($0) } ?? .other("boolean")
    case .double: value = .other("fraction")
    case .date, .time, .dateTime: value = .other("date or time")
    }
  }

  private static func lineOfNUL(_ text: String) -> Int? {
    let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    let index = lines.firstIndex { line in
      line.contains(0) || line.contains(Array("\\u0000".utf8)) || line.contains(Array("\\U00000000".utf8))
    }
    return index.map { $0 + 1 }
  }

  private static func lineOfBrokenText(_ bytes: [UInt8]) -> Int {
    let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    return (lines.firstIndex { String(validating: $0, as: UTF8.self) == nil } ?? 0) + 1
  }
}

extension ConfigurationNode.Value {
  /// With its article, for "must be …, not …".
  var kind: String {
    switch self {
    case .table: "a table"
    case .array: "a list"
    case .string: "a string"
    case .integer: "a number"
    case .boolean: "true or false"
    case .other(let name): "a \(name)"
    }
  }
}
