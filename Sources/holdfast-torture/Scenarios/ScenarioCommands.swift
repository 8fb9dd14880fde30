// `scenario NAME URI` and `scenarios`.

import ArgumentParser
import Glibc
import Synchronization
import Torture

struct ScenariosCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "scenarios", abstract: "List the scenarios.")

  func run() throws {
    let rows =
      [["name", "about", "needs", "what went wrong once"]]
      + Scenario.all.map { [$0.name, $0.invariant, $0.needsFaults ? "--server-command" : "-", $0.story] }
    print(table(rows))
  }
}

struct ScenarioCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scenario",
    abstract: "Provoke one known fault.",
    discussion: """
      OVERWRITES the beginning of the export.

      With --server-command the tool starts the server itself and preloads a small library into it, which holds, shortens \
      or fails one call when a scenario asks for it.

      Example:
        holdfast-torture scenario dead-connection 'nbd+unix:///?socket=/tmp/s' \\
          --server-command 'nbdkit -f -U /tmp/s file disk.img'
      """)

  @Argument(help: ArgumentHelp("One of those that `scenarios` lists.", valueName: "name")) var name: String
  @Argument(help: ArgumentHelp("The export, as libnbd has it.", valueName: "uri")) var uri: String
  @Option(help: ArgumentHelp("Start the server with this shell command.", valueName: "cmd")) var serverCommand: String?
  @Option(help: "How often; the first time that it is provoked is the last.") var runs = 1
  @Option(help: "The same seed asks for the same things. (default: a new one, which is printed)") var seed: UInt64?
  @Flag(help: "Count what the protocol does not promise as broken, too.") var strict = false
  @Flag(help: "Start the server anew for each run; with --server-command.") var restart = false
  @Flag(help: "Print the verdict as JSON.") var json = false

  func validate() throws {
    guard Scenario.all.contains(where: { $0.name == name }) else {
      let names = Scenario.all.map(\.name).joined(separator: ", ")
      throw ValidationError("There is no scenario \"\(name)\"; there are \(names).")
    }
    guard (1...100_000).contains(runs) else { throw ValidationError("--runs is 1 to 100000.") }
  }

  func run() throws {
    try endEarlyOnSignals()
    guard let scenario = Scenario.all.first(where: { $0.name == name }) else { return }
    let firstSeed = seed ?? UInt64.random(in: 1...UInt64(UInt32.max))
    var held = 0
    var finding: Finding?
    /// No promise of the protocol.
    var remark: Finding?
    do {
      let faults = try serverCommand == nil ? nil : Faults()
      defer { faults?.remove() }
      var server: ServerProcess?
      defer { server?.kill() }
      while held < runs, finding == nil, held == 0 || !wasInterrupted.load(ordering: .relaxed) {
        if let serverCommand, server == nil || restart || scenario.needsNewServer {
          // First, and then the new one: all that descends from this process ends with a server.
          server = nil
          server = try ServerProcess(serverCommand, environment: try faults?.environment() ?? [])
          _ = try server?.connect(uri)
        }
        let found = try scenario.run(
          .init(uri: uri, seed: firstSeed &+ UInt64(held), faults: faults, isStrict: strict))
        if let found, strict || found.category.isPromised { finding = found } else { held += 1 }
        remark = remark ?? found
      }
    } catch let failure as TortureFailure {
      throw couldNotJudge("\(name), run \(held + 1): \(failure)", json: json ? uri : nil)
    }
    if json {
      print(
        JSON.object([
          ("schema", .integer(Verdict.schemaVersion)), ("tool", .string("holdfast-torture")),
          ("scenario", .string(name)), ("uri", .string(uri)), ("seed", .string(String(firstSeed))),
          ("runs", .integer(runs)), ("held", .integer(held)),
          ("verdict", .string((finding == nil ? Word.clean : .violation).rawValue)),
          ("interrupted", .bool(wasInterrupted.load(ordering: .relaxed))),
          ("findings", .array((finding ?? remark).map { [$0.json] } ?? [])),
        ]).text)
    } else {
      if let shown = finding ?? remark { print(shown.text + "\n") }
      let end = finding == nil ? "held in \(held) of \(runs) runs" : "broken in run \(held + 1)"
      let but = finding == nil && remark != nil ? ", as far as the protocol promises anything" : ""
      print("\(name): \(end)\(but); seed \(firstSeed)")
    }
    throw ExitCode((finding == nil ? Word.clean : .violation).exitCode)
  }
}
