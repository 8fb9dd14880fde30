// Writes JSON (RFC 8259) on one line. The nesting is that of the closures, so brackets always match.

struct JSONWriter {
  private(set) var text = ""
  private var needsComma = false

  mutating func object(_ body: (inout JSONWriter) -> Void) { nest("{", "}", body) }

  mutating func array<Element>(_ elements: some Sequence<Element>, _ body: (inout JSONWriter, Element) -> Void) {
    nest("[", "]") { writer in
      for element in elements { body(&writer, element) }
    }
  }

  /// Names the value that follows.
  mutating func key(_ name: String) {
    separate()
    text += jsonString(name) + ":"
    needsComma = false
  }

  mutating func value(_ string: String?) { scalar(string.map(jsonString)) }
  mutating func value(_ number: (some BinaryInteger)?) { scalar(number.map { "\($0)" }) }
  mutating func value(_ flag: Bool) { scalar(flag ? "true" : "false") }

  /// Infinite and undefined ones, which JSON has not, are null.
  mutating func value(_ number: Double?) { scalar(number.flatMap { $0.isFinite ? "\($0)" : nil }) }

  mutating func field(_ name: String, _ string: String?) {
    key(name)
    value(string)
  }
  mutating func field(_ name: String, _ number: (some BinaryInteger)?) {
    key(name)
    value(number)
  }
  mutating func field(_ name: String, _ flag: Bool) {
    key(name)
    value(flag)
  }
  mutating func field(_ name: String, _ number: Double?) {
    key(name)
    value(number)
  }

  private mutating func scalar(_ written: String?) {
    separate()
    text += written ?? "null"
    needsComma = true
  }

  private mutating func nest(_ open: String, _ close: String, _ body: (inout JSONWriter) -> Void) {
    separate()
    text += open
    needsComma = false
    body(&self)
    text += close
    needsComma = true
  }

  private mutating func separate() { if needsComma { text += "," } }
}
