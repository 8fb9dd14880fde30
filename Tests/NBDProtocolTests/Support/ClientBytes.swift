// What a client says, as bytes.

@testable import NBDProtocol

/// Flags that a client answers the greeting with.
enum Client {
  static let fixed: UInt32 = 1
  static let noZeroes: UInt32 = 2

  static func flags(_ flags: UInt32) -> [UInt8] { bytes(flags) }

  static func option(_ option: UInt32, _ data: [UInt8] = []) -> [UInt8] {
    optionHeader(option, length: UInt32(data.count)) + data
  }

  static func option(_ option: Option, _ data: [UInt8] = []) -> [UInt8] { self.option(option.rawValue, data) }

  static func optionHeader(_ option: UInt32, length: UInt32) -> [UInt8] {
    bytes(0x4948_4156_454f_5054 as UInt64) + bytes(option) + bytes(length)
  }

  /// Data of INFO and GO.
  static func info(_ name: String, _ requests: [UInt16] = []) -> [UInt8] {
    string(name) + bytes(UInt16(requests.count)) + requests.flatMap { bytes($0) }
  }

  /// Data of LIST_META_CONTEXT and SET_META_CONTEXT.
  static func queries(_ name: String, _ queries: [String]) -> [UInt8] {
    string(name) + bytes(UInt32(queries.count)) + queries.flatMap { string($0) }
  }

  static func string(_ string: String) -> [UInt8] { bytes(UInt32(string.utf8.count)) + Array(string.utf8) }

  static func request(
    type: UInt16, flags: UInt16 = 0, cookie: UInt64 = 0, offset: UInt64 = 0, length: UInt32 = 0,
    magic: UInt32 = 0x2560_9513
  ) -> [UInt8] {
    bytes(magic) + bytes(flags) + bytes(type) + bytes(cookie) + bytes(offset) + bytes(length)
  }

  static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    stride(from: value.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: value >> $0) }
  }
}

/// Big-endian numbers off the front of bytes of ours; a test that reads past the end fails by trapping.
struct Scanner {
  var rest: ArraySlice<UInt8>

  init(_ bytes: some Sequence<UInt8>) { rest = ArraySlice(Array(bytes)) }

  var isAtEnd: Bool { rest.isEmpty }

  mutating func number<T: FixedWidthInteger>(_: T.Type = T.self) -> T {
    take(T.bitWidth / 8).reduce(0) { $0 << 8 | T(truncatingIfNeeded: $1) }
  }

  mutating func take(_ count: Int) -> [UInt8] {
    precondition(count <= rest.count, "the reply is too short")
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  mutating func text(_ count: Int) -> String { String(decoding: take(count), as: UTF8.self) }
}
