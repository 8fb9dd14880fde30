// How `holdfast map` prints extents: a table for people, JSON for programs.

import BlockBackend
import Reports

struct MapOutput {
  /// Raised when a key changes its meaning or goes away.
  static let schemaVersion = 1

  let image: String
  let sizeBytes: UInt64
  let isJSON: Bool
  private var isFirst = true

  init(image: String, sizeBytes: UInt64, isJSON: Bool) {
    self.image = image
    self.sizeBytes = sizeBytes
    self.isJSON = isJSON
  }

  var head: String {
    guard isJSON else { return "\(columns("offset", "length"))  kind\n" }
    return """
      {"schema": \(Self.schemaVersion), "image": \(jsonString(image)), "size": \(sizeBytes), "extents": [
      """
  }

  mutating func line(_ offset: UInt64, _ extent: Extent) -> String {
    guard isJSON else { return "\(columns("\(offset)", "\(extent.lengthBytes)"))  \(extent.kind)\n" }
    let separator = isFirst ? "\n" : ",\n"
    isFirst = false
    return "\(separator)  {\"offset\": \(offset), \"length\": \(extent.lengthBytes), \"kind\": \"\(extent.kind)\"}"
  }

  var tail: String { isJSON ? "\n]}\n" : "" }

  /// Wide enough for the last offset.
  private func columns(_ first: String, _ second: String) -> String {
    let width = max(8, "\(sizeBytes)".count)
    return [first, second].map { String(repeating: " ", count: max(0, width - $0.count)) + $0 }.joined(separator: "  ")
  }
}
