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
  @Option(help: "Seconds of each load. (default: 0.5, and 1 where the disk decides)") var seconds: Double?
  @Option(help: "Repeat measurements (up to 10 times) while others use more than this percentage of the processors.")
  var quiet: Double?
  @Option(help: "Only cases whose names contain one of these, separated by commas.") var cases = ""
  @Option(help: "Only these servers, separated by commas.") var servers = ""
  @Option(help: "The holdfast to measure.") var holdfast = ".build/release/holdfast"
  @Option(help: "Where the images go: 8 GiB on the file system to be measured. (default: TMPDIR or /tmp)")
  var directory: String?
  @Option(help: "Where the results go.") var output: String?
  @Flag(help: "Measure in every round what was out of reach in the first two, too.") var all = false
  @Flag(help: "Run server and load generator on one processor, for cases that leave it to the kernel.") var oneCpu =
    false
  @Flag(help: "Only show the names of the cases.") var list = false

  func validate() throws {
    guard (1...100).contains(rounds), (0.01...60).contains(seconds ?? 1) else {
      throw ValidationError("--rounds is 1 to 100, --seconds 0.01 to 60.")
    }
  }

  func run() throws {
    let wanted = cases.split(separator: ",")
    let named = Case.all.filter { item in wanted.isEmpty || wanted.contains { item.name.contains($0) } }
    let chosen = oneCpu ? named.compactMap(\.onOneCPU) : named
    guard !chosen.isEmpty else { throw ValidationError("No case has such a name; see --list.") }
    if list { return print(chosen.map(\.name).joined(separator: "\n")) }
    #if DEBUG
    throw ValidationError("A debug build measures itself; build with -c release.")
    #else
    let kinds = try ServerKind.choose(servers)
    let directory = try Workplace(in: directory)
    defer { directory.remove() }
    let options = BenchOptions(
      rounds: rounds, seconds: seconds, measuresAll: all, quietPercent: quiet, cases: chosen, servers: kinds,
      holdfast: holdfast,
      bench: CommandLine.arguments[0], directory: directory.path, command: command)
    let results = runBenchmarks(options)
    let machine = Machine(servers: kinds, holdfast: holdfast, directory: directory.path)
    try write(Report(options: options, machine: machine, results: results), isWhole: named.count == Case.all.count)
    if results.failures.contains(where: { $0.server == .holdfast }) { throw ExitCode.failure }
    #endif
  }

  private var command: String {
    "holdfast-bench run --rounds \(rounds)" + (seconds.map { " --seconds \(brief($0))" } ?? "")
      + (oneCpu ? " --one-cpu" : "") + (all ? " --all" : "") + (quiet.map { " --quiet \(brief($0))" } ?? "")
      + (cases.isEmpty ? "" : " --cases \(cases)")
      + (servers.isEmpty ? "" : " --servers \(servers)")
  }

  private func write(_ report: Report, isWhole: Bool) throws {
    let isComplete = isWhole && servers.isEmpty && rounds >= 5 && !Interruption.isAsked
    let folder = output ?? (isComplete ? "Benchmarks" + (oneCpu ? "/one-cpu" : "") : ".build/bench")
    try makeFolder(folder)
    try writeFile("\(folder)/results.md", report.markdown)
    try writeFile("\(folder)/results.json", report.json)
    print(report.verdicts.text, terminator: "")
    print(report.floors, terminator: "")
    print("others on the processors: \(report.quietness)")
    print("(!) below the floor, * goal reached; all of it in \(folder)/results.md and results.json")
  }
}
