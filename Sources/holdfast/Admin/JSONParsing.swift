// Text to JSON, by FoundationEssentials: ArgumentParser links it anyway. What comes from a peer is measured first, so that it
// neither fills the stack nor the memory.

import FoundationEssentials

/// Why a text is no JSON, or none that we take; a clause.
struct JSONMistake: Error, Equatable {
  var clause: String
}

extension JSON {
  /// Objects and lists in one another: more than any request or reply has.
  static let depthMax = 16

  /// - Parameter text: UTF-8.
  init(parsing text: [UInt8]) throws(JSONMistake) {
    guard JSON.depth(of: text) <= JSON.depthMax else {
      throw JSONMistake(clause: "more than \(JSON.depthMax) objects and lists are in one another")
    }
    guard String(validating: text, as: UTF8.self) != nil else { throw JSONMistake(clause: "it is not UTF-8") }
    do {
      self = try JSONDecoder().decode(DecodedJSON.self, from: Data(text)).json
    } catch {
      throw JSONMistake(clause: "it is not JSON")
    }
  }

  /// How many objects and lists are open at most.
  private static func depth(of text: [UInt8]) -> Int {
    var depth = 0
    var deepest = 0
    var isInString = false
    var isEscaped = false
    for byte in text {
      if isInString {
        if isEscaped {
          isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
          isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
          isInString = false
        }
        continue
      }
      switch byte {
      case UInt8(ascii: "\""): isInString = true
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        depth += 1
        deepest = max(deepest, depth)
      case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
      default: break
      }
    }
    return deepest
  }
}

/// Whatever the decoder finds.
private struct DecodedJSON: Decodable {
  let json: JSON

  private struct Name: CodingKey {
    let stringValue: String
    let intValue: Int? = nil
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  init(from decoder: any Decoder) throws {
    if let object = try? decoder.container(keyedBy: Name.self) {
      // The decoder does not tell their order.
      json = .object(
        try object.allKeys.sorted { $0.stringValue < $1.stringValue }.map {
          JSON.Member(name: $0.stringValue, value: try object.decode(DecodedJSON.self, forKey: $0).json)
        })
    } else if var array = try? decoder.unkeyedContainer() {
      var elements: [JSON] = []
      while !array.isAtEnd { elements.append(try array.decode(DecodedJSON.self).json) }
      json = .array(elements)
    } else {
      let value = try decoder.singleValueContainer()
      if value.decodeNil() {
        json = .null
      } else if let boolean = try? value.decode(Bool.self) {
        json = .boolean(boolean)
      } else if let integer = try? value.decode(Int.self) {
        json = .integer(integer)
      } else if let number = try? value.decode(Double.self) {
        json = .number(number)
      } else {
        json = .string(try value.decode(String.self))
      }
    }
  }
}

extension ConfigurationNode {
  /// What came as JSON, to be read like a configuration: the same messages for the same mistakes. Everything is on line 1.
  init(_ json: JSON) {
    let value: Value =
      switch json {
      case .object(let members):
        .table(Dictionary(members.map { ($0.name, ConfigurationNode($0.value)) }) { _, last in last })
      case .array(let elements): .array(elements.map { ConfigurationNode($0) })
      case .string(let text): .string(text)
      case .integer(let number): .integer(number)
      case .boolean(let boolean): .boolean(boolean)
      case .number: .other("fraction")
      case .null: .other("null")
      case .text: .other("text")
      }
    self.init(value: value, line: 1)
  }
}
