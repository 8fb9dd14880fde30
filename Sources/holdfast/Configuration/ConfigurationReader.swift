// A configuration to a plan: bytes in, a plan or every mistake out. Pure: host names are resolved by a function that is
// handed in, no file is touched.

/// Everything that is wrong with a configuration, in the order of its lines.
struct ConfigurationMistakes: Error, Equatable {
  var mistakes: [Mistake]

  init(mistakes: [Mistake]) { self.mistakes = mistakes }

  init(_ line: Int, _ text: String) { mistakes = [Mistake(line: line, text: text)] }

  /// `file:line: text`, as compilers write it.
  func lines(file: String) -> [String] { mistakes.map { "\(file):\($0.line): \($0.text)" } }
}

struct ConfigurationReader {
  /// Relative image paths start here: the directory of the file.
  var directory: String
  var resolve: HostResolver
  var directories: RuntimeDirectories

  func read(_ bytes: [UInt8]) throws(ConfigurationMistakes) -> ServePlan {
    let root = try ConfigurationNode(parsing: bytes)
    guard case .table(let entries) = root.value else { preconditionFailure("a TOML text is a table") }

    let mistakes = MistakeList()
    var top = TableReader("", entries, line: 1, mistakes)
    var plan = ServePlan()
    let server = top.table("server")
    var reader = TableReader("[server]", server?.entries ?? [:], line: server?.line ?? 1, mistakes)
    let exports = top.tables("export")
    for (index, export) in exports.enumerated() {
      if let read = self.export(export.entries, export.line, index, mistakes) { plan.exports.append(read) }
    }
    noteRepeatedNames(exports, mistakes)
    if exports.isEmpty, entries["export"] == nil {
      mistakes.note(root.line, "nothing to serve; add an [[export]] with a name and a path")
    }
    readServer(&reader, &plan, names: exports.compactMap { $0.entries.text("name") })
    for (name, read) in [("metrics", readMetrics), ("log", readLog)] {
      guard let found = top.table(name) else { continue }
      var table = TableReader("[\(name)]", found.entries, line: found.line, mistakes)
      read(&table, &plan)
      table.finish()
    }
    top.finish()

    guard mistakes.mistakes.isEmpty else {
      // The order of equal lines must not depend on the order of a dictionary.
      let sorted = mistakes.mistakes.sorted { ($0.line, $0.text) < ($1.line, $1.text) }
      throw ConfigurationMistakes(mistakes: sorted)
    }
    return plan
  }

  private func readServer(_ server: inout TableReader, _ plan: inout ServePlan, names: [String]) {
    plan.plaintextPermission = "allow-plaintext = true"
    plan.allowsPlaintext = server.boolean("allow-plaintext") ?? false
    let addresses = AddressReader(
      resolve: resolve, allowsPlaintext: plan.allowsPlaintext, permission: plan.plaintextPermission)
    for (text, line) in server.strings("listen") ?? [] {
      do throws(AddressMistake) {
        for address in try addresses.uri(text) {
          plan.listeners.append(address)
          if firstDuplicate(plan.listeners) != nil {
            plan.listeners.removeLast()
            server.mistake(line, "\"listen\": \(address) is given twice")
          }
        }
      } catch {
        server.mistake(line, "\"listen\": \(error.clause)")
      }
    }
    if plan.listeners.isEmpty {
      do throws(AddressMistake) { try plan.listenByDefault(directories) } catch {
        server.mistake(server.line, "no \"listen\": \(error.clause)")
      }
    }
    if let (name, line) = server.string("default-export") {
      plan.defaultExport = name
      if !names.contains(name) {
        let guess = closest(to: name, in: names).map { "; did you mean \"\($0)\"?" } ?? ""
        server.mistake(line, "\"default-export\": there is no export \"\(name)\"\(guess)")
      }
    }
    if let (text, line) = server.string("socket-mode") {
      if let mode = SocketMode(parsing: text) {
        plan.socketMode = mode
      } else {
        server.mistake(line, "\"socket-mode\": \(SocketMode.mistake(text))")
      }
    }
    plan.connectionsMax = server.integer("max-connections", in: 1...65_536) ?? plan.connectionsMax
    plan.spins = server.boolean("spin") ?? plan.spins
    server.finish()
  }
}
