// Sizes as people write and read them. A suffix is a power of 1024, as in qemu-img: 20G is 20GiB.

/// Bytes of an image.
struct ByteSize: Hashable, Sendable {
  var bytes: UInt64

  /// The largest file offset of Linux.
  static let bytesMax = UInt64(Int64.max)
}

/// A size that is not one: a clause that follows the name of what was read.
struct SizeMistake: Error, Equatable {
  var clause: String
}

extension ByteSize {
  private static let prefixes: [Character] = ["k", "m", "g", "t", "p", "e"]

  /// `20G`, `512M`, `1TiB`, `4096`, `4096B`; letters in either case.
  init(parsing text: String) throws(SizeMistake) {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let suffix = text.dropFirst(digits.count).lowercased()
    guard !digits.isEmpty, let factor = Self.factor(suffix) else {
      if suffix.count == 2, suffix.last == "b", Self.factor(String(suffix.prefix(1))) != nil, !digits.isEmpty {
        let unit = suffix.prefix(1).uppercased()
        throw SizeMistake(clause: "\"\(text)\" could mean powers of 1000 or 1024; write \(digits)\(unit)iB for 1024")
      }
      throw SizeMistake(
        clause: "\"\(text)\" is not a size; write a whole number of bytes, or one with K, M, G, T, KiB, MiB, GiB or TiB"
      )
    }
    guard let number = UInt64(digits), case let (bytes, overflow) = number.multipliedReportingOverflow(by: factor),
      !overflow, bytes <= Self.bytesMax
    else { throw SizeMistake(clause: "\"\(text)\" is too large; a file on Linux has at most \(Self.bytesMax) bytes") }
    guard bytes > 0 else { throw SizeMistake(clause: "\"\(text)\" is empty; write at least 1") }
    self.bytes = bytes
  }

  private static func factor(_ suffix: String) -> UInt64? {
    if suffix.isEmpty || suffix == "b" { return 1 }
    guard let index = prefixes.firstIndex(of: suffix.first!) else { return nil }
    guard suffix.count == 1 || suffix.dropFirst() == "ib" else { return nil }
    return 1 << (10 * UInt64(index + 1))
  }
}

extension ByteSize: CustomStringConvertible {
  /// `20.0 GiB`, `512 B`: rounded, for people.
  var description: String {
    guard bytes >= 1024 else { return "\(bytes) B" }
    var unit = 0
    var scaled = bytes
    while unit + 1 < Self.prefixes.count, scaled >= 1024 * 1024 {
      scaled /= 1024
      unit += 1
    }
    // 1023.97 KiB shall not become "1024.0 KiB".
    var tenths = (scaled * 10 + 512) / 1024
    if tenths >= 10_240, unit + 1 < Self.prefixes.count {
      tenths = 10
      unit += 1
    }
    return "\(tenths / 10).\(tenths % 10) \(Self.prefixes[unit].uppercased())iB"
  }
}
