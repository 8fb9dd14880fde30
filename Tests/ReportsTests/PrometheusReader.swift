// Reads the text format 0.0.4 and holds it to its rules: HELP and TYPE once and first, families not mixed, labels escaped,
// histograms cumulative.

struct PrometheusReader {
  struct Sample {
    /// The metric, without `_bucket`, `_sum`, `_count` of a histogram.
    var family: String
    var name: String
    var labels: [String: String]
    var value: Double
  }

  struct Mistake: Error, CustomStringConvertible {
    var description: String
  }

  static func read(_ text: String) throws -> [Sample] {
    guard text.last == "\n" else { throw Mistake(description: "the last line has an end") }
    var samples: [Sample] = []
    var kinds: [String: String] = [:]
    var helped: Set<String> = []
    var current: String?
    for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
      let words = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false).map(String.init)
      if line.hasPrefix("# HELP ") {
        guard helped.insert(words[2]).inserted, words.count == 4 else { throw Mistake(description: "\(line)") }
        current = words[2]
      } else if line.hasPrefix("# TYPE ") {
        guard words[2] == current, kinds.updateValue(words[3], forKey: words[2]) == nil else {
          throw Mistake(description: "TYPE follows its HELP, once: \(line)")
        }
      } else {
        var sample = try sample(String(line))
        guard let family = current else { throw Mistake(description: "no family: \(line)") }
        let suffixes = kinds[family] == "histogram" ? ["_bucket", "_sum", "_count"] : [""]
        guard suffixes.contains(where: { sample.name == family + $0 }) else {
          throw Mistake(description: "a sample stands behind its TYPE: \(line)")
        }
        if kinds[family] == "counter", !family.hasSuffix("_total") { throw Mistake(description: "_total: \(line)") }
        sample.family = family
        if samples.contains(where: { $0.name == sample.name && $0.labels == sample.labels }) {
          throw Mistake(description: "a series stands twice: \(line)")
        }
        samples.append(sample)
      }
    }
    for (family, kind) in kinds where kind == "histogram" { try checkHistogram(family, samples) }
    return samples
  }

  private static func checkHistogram(_ family: String, _ samples: [Sample]) throws {
    let buckets = samples.filter { $0.name == family + "_bucket" }
    let groups = Dictionary(grouping: buckets) { $0.labels.filter { $0.key != "le" } }
    for (labels, group) in groups {
      let bounds = group.map { Double($0.labels["le"]!.replacing("+Inf", with: "inf"))! }
      guard bounds == bounds.sorted(), bounds.last == .infinity else { throw Mistake(description: "\(family): bounds") }
      guard group.map(\.value) == group.map(\.value).sorted() else {
        throw Mistake(description: "\(family): not cumulative")
      }
      let count = samples.first { $0.name == family + "_count" && $0.labels == labels }
      guard count?.value == group.last?.value else { throw Mistake(description: "\(family): count is the last bucket") }
    }
  }

  /// `name{label="value",...} number`
  private static func sample(_ line: String) throws -> Sample {
    var rest = Array(line.unicodeScalars)[...]
    func isName(_ scalar: Unicode.Scalar) -> Bool {
      scalar.isASCII && (scalar.properties.isAlphabetic || scalar == "_" || ("0"..."9").contains(scalar))
    }
    func take(while condition: (Unicode.Scalar) -> Bool) -> String {
      var text = String.UnicodeScalarView()
      while let first = rest.first, condition(first) {
        text.append(first)
        rest.removeFirst()
      }
      return String(text)
    }
    func expect(_ scalar: Unicode.Scalar) throws {
      guard rest.popFirst() == scalar else { throw Mistake(description: "\(scalar) is missing: \(line)") }
    }
    let name = take(while: isName)
    guard !name.isEmpty else { throw Mistake(description: "no name: \(line)") }
    var labels: [String: String] = [:]
    if rest.first == "{" {
      rest.removeFirst()
      while true {
        let label = take(while: isName)
        try expect("=")
        try expect("\"")
        var value = String.UnicodeScalarView()
        while let scalar = rest.popFirst(), scalar != "\"" {
          guard scalar == "\\" else {
            value.append(scalar)
            continue
          }
          switch rest.popFirst() {
          case "n": value.append("\n")
          case "\\": value.append("\\")
          case "\"": value.append("\"")
          default: throw Mistake(description: "an escape is not known: \(line)")
          }
        }
        guard !label.isEmpty, labels.updateValue(String(value), forKey: label) == nil else {
          throw Mistake(description: "a label stands twice: \(line)")
        }
        if rest.first == "}" { break }
        try expect(",")
      }
      try expect("}")
    }
    try expect(" ")
    guard let value = Double(String(String.UnicodeScalarView(rest))) else {
      throw Mistake(description: "no number: \(line)")
    }
    return Sample(family: "", name: name, labels: labels, value: value)
  }
}
