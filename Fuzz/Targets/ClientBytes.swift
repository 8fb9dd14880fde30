// What a client says, as bytes. Written down apart from the server, which could otherwise not be told wrong numbers.

enum Say {
  static let optionMagic: UInt64 = 0x4948_4156_454f_5054
  static let optionReplyMagic: UInt64 = 0x0003_e889_0455_65a9
  static let requestMagic: UInt32 = 0x2560_9513

  static func number(_ value: some FixedWidthInteger) -> [UInt8] {
    stride(from: value.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: value >> $0) }
  }

  static func string(_ bytes: [UInt8]) -> [UInt8] { number(UInt32(bytes.count)) + bytes }

  static func option(_ number: UInt32, _ data: [UInt8], announced: UInt32? = nil) -> [UInt8] {
    self.number(optionMagic) + self.number(number) + self.number(announced ?? UInt32(data.count)) + data
  }

  static func info(_ name: [UInt8], _ requests: [UInt16]) -> [UInt8] {
    string(name) + number(UInt16(requests.count)) + requests.flatMap { number($0) }
  }

  static func queries(_ name: [UInt8], _ queries: [[UInt8]]) -> [UInt8] {
    string(name) + number(UInt32(queries.count)) + queries.flatMap { string($0) }
  }

  static func request(
    _ type: UInt16, flags: UInt16, cookie: UInt64, offset: UInt64, length: UInt32, magic: UInt32 = requestMagic
  ) -> [UInt8] {
    number(magic) + number(flags) + number(type) + number(cookie) + number(offset) + number(length)
  }
}

/// Big-endian numbers off the front of what the server said; what does not fit is a finding.
struct Scanner {
  private let bytes: [UInt8]
  private var at: Int

  init(_ bytes: [UInt8], from start: Int = 0) { (self.bytes, at) = (bytes, start) }

  var remaining: Int { bytes.count - at }
  var position: Int { at }

  mutating func number<T: FixedWidthInteger & UnsignedInteger>(_: T.Type = T.self) throws(Finding) -> T {
    try demand(remaining >= T.bitWidth / 8, "the server's output ends inside a number")
    var value: T = 0
    for _ in 0..<(T.bitWidth / 8) {
      value = value << 8 | T(bytes[at])
      at += 1
    }
    return value
  }

  mutating func take(_ count: Int) throws(Finding) -> [UInt8] {
    try demand(remaining >= count, "the server's output is shorter than it says")
    defer { at += count }
    return Array(bytes[at..<at + count])
  }
}

/// Names that clients of the targets ask for.
let namesAsked: [[UInt8]] = [
  [], Array("disk".utf8), Array("other".utf8), Array("é".utf8), Array("e\u{301}".utf8), Array("nothing".utf8),
  [0xff, 0xfe], [0x61, 0, 0x62], [UInt8](repeating: 0x61, count: 300), [UInt8](repeating: 0x61, count: 4096),
  [UInt8](repeating: 0x61, count: 4097),
]
