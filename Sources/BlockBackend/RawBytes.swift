// Between raw spans and arrays.

extension Array where Element == UInt8 {
  /// A copy of `bytes`.
  package init(copying bytes: RawSpan) {
    self = unsafe bytes.withUnsafeBytes { unsafe Array($0) }
  }
}

extension MutableRawSpan {
  package mutating func fill(_ byte: UInt8) {
    unsafe withUnsafeMutableBytes { _ = unsafe $0.initializeMemory(as: UInt8.self, repeating: byte) }
  }

  /// Copies `bytes` to the front; there is room for them.
  package mutating func copy(_ bytes: ArraySlice<UInt8>) {
    precondition(bytes.count <= byteCount, "no room for the bytes")
    unsafe withUnsafeMutableBytes { unsafe $0.copyBytes(from: bytes) }
  }
}
