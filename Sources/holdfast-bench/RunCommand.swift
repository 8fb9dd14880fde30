// `holdfast-bench run`: the comparison that `make bench` makes.

import ArgumentParser
import DaemonHarness
import Glibc
import Syscalls

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Compare holdfast with the servers that are installed.",
    discussion: "Writes results.md and results.json. Unless everything is measured, they go to .build/bench.")

  @Option(help: "Rounds.") var rounds = 5
  @Option(help: "Seconds of each load.") var seconds = 1.0
  @Option(help: "Repeat measurements (up to 10 times) while others use more than this percentage of the processors.")
  var quiet: Double?
  @Option(help: "Only cases whose names contain one of these, separated by commas.") var cases = ""
  @Option(help: "Only these servers, separated by commas.") var servers = ""
  @Option(help: "The holdfast to measure.") var holdfast = ".build/release/holdfast"
  @Option(help: "Where the images go: 8 GiB on the file system to be measured. (default: TMPDIR or /tmp)")
  var directory: String?
  @Option(help: "Where the results go.") var output: String?
  @Flag(help: "Only show the names of the cases.") var list = false

  func validate() throws {
    guard (1...100).contains(rounds), seconds > 0, seconds <= 60 else {
      throw ValidationError("--rounds is 1 to 100, --seconds more than 0 and at most 60.")
    }
  }

  func run() throws {
    let wanted = cases.split(separator: ",")
    let chosen = Case.all.filter { item in wanted.isEmpty || wanted.contains { item.name.contains($0) } }
    guard !chosen.isEmpty else { throw ValidationError("No case has such a name; see --list.") }
    if list { return print(chosen.map(\.name).joined(separator: "\n")) }
    #if DEBUG
    throw ValidationError("A debug build measures itself; build with -c release.")
    #else
    let kinds = try chooseServers()
    signal(SIGPIPE, SIG_IGN)
    try DescriptorLimit.raise(to: 8192)
    let directory = try makeDirectory()
    defer { _ = try? DaemonHarness.run("/bin/rm", ["-rf", "--one-file-system", directory], seconds: 60) }
    let options = BenchOptions(
      rounds: rounds, seconds: seconds, quietPercent: quiet, cases: chosen, servers: kinds, holdfast: holdfast,
      bench: CommandLine.arguments[0], directory: directory, command: command)
    Interruption.listen()
    let results = runBenchmarks(options)
    let machine = Machine(servers: kinds, holdfast: holdfast, directory: directory)
    try write(Report(options: options, machine: machine, results: results), isWhole: chosen.count == Case.all.count)
    if results.failures.contains(where: { $0.server == .holdfast }) { throw ExitCode.failure }
    #endif
  }

  private var command: String {
    "holdfast-bench run --rounds \(rounds) --seconds \(brief(seconds))"
      + (quiet.map { " --quiet \(brief($0))" } ?? "") + (cases.isEmpty ? "" : " --cases \(cases)")
      + (servers.isEmpty ? "" : " --servers \(servers)")
  }

  private func chooseServers() throws -> [ServerKind] {
    let names = servers.split(separator: ",")
    for name in names where ServerKind(rawValue: String(name)) == nil {
      throw ValidationError(
        "No server is called \(name): \(ServerKind.allCases.map(\.rawValue).joined(separator: ", ")).")
    }
    return try ServerKind.allCases.filter { kind in
      guard names.isEmpty || names.contains(Substring(kind.rawValue)) else { return false }
      if let tool = kind.tool, find(tool) == nil {
        if !names.isEmpty { throw BenchError("\(tool) is not installed") }
        progress("\(kind.rawValue): \(tool) is not installed")
        return false
      }
      return true
    }
  }

  private func makeDirectory() throws -> String {
    let parent = directory ?? getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(parent)/holdfast-bench-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchError("cannot make a directory in \(parent): \(errnoText())") }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private func write(_ report: Report, isWhole: Bool) throws {
    let isComplete = isWhole && servers.isEmpty && rounds >= 5 && !Interruption.isAsked
    let folder = output ?? (isComplete ? "Benchmarks" : ".build/bench")
    try DaemonHarness.run("/bin/mkdir", ["-p", folder], seconds: 10).orThrow()
    try writeFile("\(folder)/results.md", report.markdown)
    try writeFile("\(folder)/results.json", report.json)
    print(report.verdicts.text, terminator: "")
    print("others on the processors: \(report.quietness)")
    print("(!) below the floor, * goal reached; all of it in \(folder)/results.md and results.json")
  }
}
