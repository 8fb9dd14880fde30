// Bytes of a stream to lines. Pure; what is kept is bounded, whatever the peer sends.

struct LineBuffer {
  /// Far above any request; a configuration of an export has a few hundred bytes.
  static let requestBytesMax = 64 << 10

  private let lineBytesMax: Int
  private var bytes: [UInt8] = []
  /// Of these, how many were looked at and have no line end in them.
  private var searchedBytes = 0

  init(lineBytesMax: Int = LineBuffer.requestBytesMax) { self.lineBytesMax = lineBytesMax }

  /// Nothing has come since the last line end.
  var isEmpty: Bool { bytes.isEmpty }

  /// The line that is begun is longer than any may be: nothing more should be added.
  var isTooLong: Bool { bytes.count > lineBytesMax && searchedBytes == bytes.count }

  mutating func append(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

  /// The next complete line without its end; nil: none is complete.
  mutating func nextLine() -> [UInt8]? {
    guard let end = bytes[searchedBytes...].firstIndex(of: UInt8(ascii: "\n")) else {
      searchedBytes = bytes.count
      return nil
    }
    var line = Array(bytes[..<end])
    bytes.removeSubrange(...end)
    searchedBytes = 0
    if line.last == UInt8(ascii: "\r") { line.removeLast() }
    return line
  }

  /// What the peer left when it said that nothing more comes.
  mutating func takeRest() -> [UInt8] {
    searchedBytes = 0
    return exchange(&bytes, with: [])
  }
}
