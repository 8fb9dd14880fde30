// The keys of an [[export]] that say how its clients get it: window, block sizes, TRIM, durability, limits, who may have it.

import NBDServerCore

extension ConfigurationReader {
  func exportTerms(_ table: inout TableReader) -> ExportTerms {
    var terms = ExportTerms()
    (terms.blockSizes, terms.window) = shape(&table)
    terms.ignoresTrim = table.choice("trim", [("punch", false), ("ignore", true)]) ?? terms.ignoresTrim
    terms.durability =
      table.choice("durability", Durability.allCases.map { ($0.rawValue, $0) }) ?? terms.durability
    terms.limits = limits(&table)
    terms.access = access(&table) ?? terms.access
    return terms
  }

  private func shape(_ table: inout TableReader) -> (BlockSizes, ExportWindow) {
    var blocks = table.inlineTable("block-size")
    var sizes = BlockSizes()
    let minimum = blocks.bytes("minimum", in: 1...65536)
    let preferred = blocks.bytes("preferred", in: 512...UInt64(ExportTable.payloadBytesMax))
    let maximum = blocks.bytes("maximum", in: 1 << 20...UInt64(ExportTable.payloadBytesMax))
    for (key, size) in [("minimum", minimum), ("preferred", preferred)] {
      if let size, size.value > 0, size.value.nonzeroBitCount != 1 {
        blocks.mistake(size.line, "\"\(key)\" is \(size.value), which is no power of two")
      }
    }
    if let minimum, let preferred, preferred.value > 0, preferred.value < minimum.value {
      blocks.mistake(
        preferred.line, "\"preferred\" is \(preferred.value), less than \"minimum\", \(minimum.value)")
    }
    if let maximum, maximum.value > 0 {
      if let preferred, preferred.value > maximum.value {
        blocks.mistake(maximum.line, "\"maximum\" is \(maximum.value), less than \"preferred\", \(preferred.value)")
      } else if let minimum, minimum.value > 0, maximum.value % minimum.value != 0 {
        blocks.mistake(maximum.line, "\"maximum\" is \(maximum.value), no multiple of \"minimum\", \(minimum.value)")
      }
      sizes.maximum = UInt32(clamping: maximum.value)
    }
    sizes.minimum = nonzero(minimum).map { UInt32(clamping: $0) }
    sizes.preferred = nonzero(preferred).map { UInt32(clamping: $0) }
    blocks.finish()
    return (sizes, window(&table, minimum: sizes.minimum))
  }

  private func window(_ table: inout TableReader, minimum: UInt32?) -> ExportWindow {
    var reader = table.inlineTable("window")
    let offset = reader.bytes("offset", in: 0...ByteSize.bytesMax)
    let size = reader.bytes("size", in: 1...ByteSize.bytesMax)
    if let offset, let size, offset.value.addingReportingOverflow(size.value).partialValue > ByteSize.bytesMax {
      reader.mistake(size.line, "the window ends behind the last byte that a file can have, \(ByteSize.bytesMax)")
    }
    if let offset, let minimum, minimum > 0, offset.value % UInt64(minimum) != 0 {
      reader.mistake(offset.line, "\"offset\" is \(offset.value), no multiple of the minimum block size, \(minimum)")
    }
    reader.finish()
    return ExportWindow(offsetBytes: offset?.value ?? 0, sizeBytes: nonzero(size))
  }

  private func limits(_ table: inout TableReader) -> ExportLimits {
    var reader = table.inlineTable("limits")
    var limits = ExportLimits()
    limits.connections = reader.integer("connections", in: 0...65536).flatMap { $0 == 0 ? nil : $0 }
    limits.requestsInFlight = reader.integer("in-flight", in: 0...1_000_000).flatMap { $0 == 0 ? nil : $0 }
    // One maximum payload, so that what clients have sent ahead never fills it.
    limits.bytes = nonzero(reader.bytes("bytes", in: 32 << 20...1 << 40)).map { Int($0) }
    reader.finish()
    return limits
  }

  private func access(_ table: inout TableReader) -> [AccessRule]? {
    guard let texts = table.strings("allow") else { return nil }
    if let line = table.line(of: "allow"), texts.isEmpty, table.isEmptyList("allow") {
      table.mistake(line, "\"allow\" is empty, so nobody could connect; write [\"any\"], or leave it out")
    }
    var rules: [AccessRule] = []
    for (text, line) in texts {
      do throws(AccessMistake) { rules.append(try AccessRule(parsing: text)) } catch {
        table.mistake(line, "\"allow\": \(error.clause)")
      }
    }
    return rules
  }

  private func nonzero(_ bytes: (value: UInt64, line: Int)?) -> UInt64? {
    bytes.flatMap { $0.value == 0 ? nil : $0.value }
  }
}
