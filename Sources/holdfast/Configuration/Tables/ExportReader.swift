// The [[export]] tables of a configuration.

import Faults

extension ConfigurationReader {
  /// The export of one table; nil when it lacks what every export needs.
  func export(
    _ entries: [String: ConfigurationNode], _ line: Int, _ index: Int, _ mistakes: MistakeList
  ) -> ExportPlan? {
    let label = entries.text("name").map { "export \"\($0)\"" } ?? "export \(index + 1)"
    var table = TableReader(label, entries, line: line, mistakes)
    defer { table.finish() }

    let name = table.string("name")
    if let name, let mistake = exportNameMistake(name.value) { table.mistake(name.line, "\"name\": \(mistake)") }
    if entries["name"] == nil { table.mistake(line, "\"name\" is missing") }
    let path = table.string("path")
    if let path, path.value.isEmpty { table.mistake(path.line, "\"path\" is empty; write the path of an image") }
    if entries["path"] == nil { table.mistake(line, "\"path\" is missing") }

    let isReadOnly = table.boolean("read-only") ?? false
    let terms = exportTerms(&table)
    let createdSize = createdSize(&table, entries, isReadOnly: isReadOnly)
    let description = table.string("description")
    if let description, description.value.utf8.count > 4096 {
      table.mistake(description.line, "\"description\" has more than 4096 bytes")
    }
    var faults: [FaultRule] = []
    for (text, line) in table.strings("faults") ?? [] {
      do throws(FaultRuleMistake) { faults.append(try FaultRule(parsing: text)) } catch {
        table.mistake(line, "\"faults\": \(error.clause)")
      }
    }
    guard let name, let path else { return nil }
    return ExportPlan(
      name: name.value, path: absolute(path.value), isReadOnly: isReadOnly, createdSize: createdSize,
      description: description.flatMap { $0.value.isEmpty ? nil : $0.value }, faults: faults, terms: terms)
  }

  private func createdSize(
    _ table: inout TableReader, _ entries: [String: ConfigurationNode], isReadOnly: Bool
  ) -> ByteSize? {
    let creates = table.boolean("create")
    var size: ByteSize?
    let wanted = table.string("size").flatMap { $0.value.isEmpty ? nil : $0 }
    if let (text, line) = wanted {
      do throws(SizeMistake) { size = try ByteSize(parsing: text) } catch {
        table.mistake(line, "\"size\": \(error.clause)")
      }
      if creates != true, entries["create"] == nil || creates == false {
        table.mistake(line, "\"size\" is the size of a new image; add create = true, or leave it out")
      }
    }
    if creates == true, let line = entries["create"]?.line {
      if wanted == nil, entries.text("size") != nil || entries["size"] == nil {
        table.mistake(line, "\"create\" needs the size of the new image; add size = \"20G\"")
      }
      if isReadOnly { table.mistake(line, "\"create\" and \"read-only\" contradict each other; leave one out") }
    }
    return creates == true ? size : nil
  }

  private func absolute(_ path: String) -> String {
    path.hasPrefix("/") || directory.isEmpty ? path : "\(directory)/\(path)"
  }
}

extension [String: ConfigurationNode] {
  /// A string that is looked at before its table is read.
  func text(_ key: String) -> String? {
    guard case .string(let text)? = self[key]?.value else { return nil }
    return text
  }
}
