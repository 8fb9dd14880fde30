// `holdfast check-config`: would `serve --config` start? Reads everything, changes nothing.

import ArgumentParser
import Reports
import Syscalls
import SystemPackage

struct CheckConfigCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check-config",
    abstract: "Report every mistake in a configuration, and change nothing.",
    discussion: """
      Prints what would be served, or every mistake with its line. Images are looked for, but neither opened nor made, and \
      no socket is opened, so it can be run beside a server.

      Examples:
        holdfast check-config --config /etc/holdfast/holdfast.toml
        holdfast check-config --json --config holdfast.toml

      Exit statuses: 0 in order, 66 an image is missing, 78 mistakes in the file.
      """)

  @Option(help: ArgumentHelp("The file.", valueName: "file"))
  var config = "/etc/holdfast/holdfast.toml"

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    var directories = RuntimeDirectories.ofThisProcess()
    // Whoever checks may have no place for a socket; the service has one.
    directories.unitDirectory = directories.unitDirectory ?? "/run/holdfast"
    let plan = try readConfigurationFile(config, resolve: SocketAddress.resolve, directories: directories)
    let missing = plan.exports.filter { $0.createdSize == nil && !isThere($0.path) }
    guard missing.isEmpty else {
      throw CommandFailure(
        .noInput,
        lines: missing.map {
          "\(config): export \"\($0.name)\": there is no \($0.path); make it, or say create = true with a size"
        })
    }
    let report = CheckReport(file: config, plan: plan)
    try writeToStandardOutput(json ? report.json : report.text)
  }

  private func isThere(_ path: String) -> Bool {
    do throws(Errno) {
      _ = try Files.stat(FilePath(path))
      return true
    } catch {
      // What may not be looked at may still be there.
      return error != .noSuchFileOrDirectory && error != .notDirectory
    }
  }
}

/// What would be served.
struct CheckReport {
  var file: String
  var plan: ServePlan

  var text: String {
    let count = plan.exports.count == 1 ? "1 export" : "\(plan.exports.count) exports"
    var lines = ["\(file): in order, \(count)"]
    for export in plan.exports {
      let notes =
        (export.isReadOnly ? ["read-only"] : []) + (export.createdSize.map { ["made with \($0) if missing"] } ?? [])
        + (export.faults.isEmpty ? [] : ["FAULTS ON PURPOSE"])
      lines.append("  \(export.name)  \(([export.path] + notes).joined(separator: ", "))")
    }
    lines += plan.listeners.map { "  listens on \($0)" }
    return lines.map { withoutControlCharacters($0) + "\n" }.joined()
  }

  var json: String {
    let exports = plan.exports.map {
      "{\"name\": \(jsonString($0.name)), \"path\": \(jsonString($0.path)), \"read-only\": \($0.isReadOnly), "
        + "\"faults\": [\($0.faults.map { jsonString($0.text) }.joined(separator: ", "))]}"
    }
    let listeners = plan.listeners.map { jsonString("\($0)") }
    return "{\"schema\": 1, \"file\": \(jsonString(file)), \"exports\": [\(exports.joined(separator: ", "))], "
      + "\"listen\": [\(listeners.joined(separator: ", "))]}\n"
  }
}
