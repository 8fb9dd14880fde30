// Configurations to a plan: bytes in, a plan or every mistake out. Pure: host names are resolved by a function that is
// handed in, no file is touched. Each table has a reader of its own in Tables/.

/// Everything that is wrong with a configuration, file by file and in the order of its lines.
struct ConfigurationMistakes: Error, Equatable {
  var mistakes: [Mistake]

  init(mistakes: [Mistake]) { self.mistakes = mistakes }

  init(_ line: Int, _ text: String) { mistakes = [Mistake(line: line, text: text)] }

  /// `file:line: text`, as compilers write it.
  func lines(file: String) -> [String] { mistakes.map { "\($0.file ?? file):\($0.line): \($0.text)" } }
}

/// A file that adds exports to those of the main one.
struct DropIn {
  /// As messages name it.
  var path: String
  /// Relative image paths in it start here.
  var directory: String
  var bytes: [UInt8]
}

struct ConfigurationReader {
  /// Relative image paths start here: the directory of the file.
  var directory: String
  var resolve: HostResolver
  var directories: RuntimeDirectories
  /// How messages about drop-ins name it.
  var path: String
  /// All names that exports have, also those with other mistakes.
  private(set) var exportNames: [String] = []

  init(
    directory: String, resolve: @escaping HostResolver, directories: RuntimeDirectories, path: String = "holdfast.toml"
  ) {
    self.path = path
    self.directory = directory
    self.resolve = resolve
    self.directories = directories
  }

  /// A table that stands at most once, in the main file.
  struct Table: Sendable {
    var name: String
    var read: @Sendable (ConfigurationReader, inout TableReader, inout ServePlan) -> Void
  }

  static let tables = [
    Table(name: "server") { $0.readServer(&$1, &$2) },
    Table(name: "admin") { $0.readAdmin(&$1, &$2) },
    // Behind the one that allows plain text.
    Table(name: "metrics") { $0.readMetrics(&$1, &$2) },
    Table(name: "log") { $0.readLog(&$1, &$2) },
  ]

  /// - Parameter dropIns: further files, in the order in which their exports follow.
  func read(_ bytes: [UInt8], dropIns: [DropIn] = []) throws(ConfigurationMistakes) -> ServePlan {
    let result = readAll(bytes, dropIns)
    guard result.mistakes.isEmpty else { throw ConfigurationMistakes(mistakes: result.mistakes) }
    return result.plan
  }

  /// - Returns: also the keys that were looked for and not found, as `table: key`.
  func readAll(_ bytes: [UInt8], _ dropIns: [DropIn]) -> (plan: ServePlan, mistakes: [Mistake], unset: [String]) {
    var reader = self
    var plan = ServePlan()
    var names = ExportNames()
    let main = MistakeList(file: nil)
    var lists = [main]
    let entries = main.parsing(bytes)
    reader.readExports(entries ?? [:], &plan, &names, main)
    for dropIn in dropIns {
      let mistakes = MistakeList(file: dropIn.path)
      lists.append(mistakes)
      reader.directory = dropIn.directory
      reader.readDropIn(mistakes.parsing(dropIn.bytes) ?? [:], &plan, &names, mistakes)
    }
    reader.directory = directory
    reader.exportNames = names.all
    if let entries {
      if names.isEmpty, entries["export"] == nil, lists.dropFirst().allSatisfy(\.mistakes.isEmpty) {
        main.note(1, "nothing to serve; add an [[export]] with a name and a path")
      }
      reader.readTables(entries, &plan, main)
    }
    return (plan, lists.flatMap(\.sorted), main.unset)
  }

  private func readTables(_ entries: [String: ConfigurationNode], _ plan: inout ServePlan, _ mistakes: MistakeList) {
    var top = TableReader("", entries, line: 1, mistakes)
    top.expect("export")
    for each in Self.tables {
      let table = top.table(each.name)
      var reader = TableReader("[\(each.name)]", table?.entries ?? [:], line: table?.line ?? 1, mistakes)
      each.read(self, &reader, &plan)
      reader.finish()
    }
    top.finish()
  }

  private func readExports(
    _ entries: [String: ConfigurationNode], _ plan: inout ServePlan, _ names: inout ExportNames,
    _ mistakes: MistakeList
  ) {
    var top = TableReader("", entries, line: 1, mistakes)
    let exports = top.tables("export")
    names.sawTable = names.sawTable || !exports.isEmpty
    for (index, export) in exports.enumerated() {
      if let read = self.export(export.entries, export.line, index, mistakes) { plan.exports.append(read) }
      names.note(export.entries, export.line, mistakes, main: path)
    }
  }

  private func readDropIn(
    _ entries: [String: ConfigurationNode], _ plan: inout ServePlan, _ names: inout ExportNames,
    _ mistakes: MistakeList
  ) {
    readExports(entries, &plan, &names, mistakes)
    var top = TableReader("", entries, line: 1, mistakes)
    top.expect("export")
    for each in Self.tables {
      guard let node = entries[each.name] else { continue }
      top.expect(each.name)
      mistakes.note(node.line, "[\(each.name)] belongs into \(path); this file may have [[export]] tables only")
    }
    top.finish()
  }
}

/// Whose each name is.
struct ExportNames {
  private var places: [String: (file: String?, line: Int)] = [:]
  var sawTable = false

  var isEmpty: Bool { !sawTable }
  var all: [String] { places.keys.sorted() }

  mutating func note(_ entries: [String: ConfigurationNode], _ line: Int, _ mistakes: MistakeList, main: String) {
    guard let name = entries.text("name") else { return }
    let own = entries["name"]?.line ?? line
    guard let first = places[name] else {
      places[name] = (mistakes.file, own)
      return
    }
    let place = first.file == mistakes.file ? "on line \(first.line)" : "at \(first.file ?? main):\(first.line)"
    mistakes.note(own, "export \"\(name)\": the name is taken by the export \(place)")
  }
}
