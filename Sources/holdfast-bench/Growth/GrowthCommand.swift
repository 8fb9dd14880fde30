// `holdfast-bench growth`: what costs more as there is more of it. `holdfast-bench curves`: the pictures beside the table.

import ArgumentParser
import DaemonHarness

/// What both have.
struct SweepArguments: ParsableArguments {
  @Option(help: "Rounds.") var rounds = 3
  @Option(help: "Seconds of each measurement.") var seconds = 0.3
  @Option(help: "These servers, separated by commas.") var servers = ""
  @Option(help: "The holdfast to measure.") var holdfast = ".build/release/holdfast"
  @Option(help: "Where the images go: 4 GiB. (default: TMPDIR or /tmp)") var directory: String?
  @Option(help: "Where the results go.") var output: String?

  func validate() throws {
    guard (1...100).contains(rounds), (0.01...60).contains(seconds) else {
      throw ValidationError("--rounds is 1 to 100, --seconds 0.01 to 60.")
    }
  }

  func measured(_ command: String, _ sweeps: [Sweep], _ fallback: [ServerKind]) throws -> SweepReport {
    #if DEBUG
    throw ValidationError("A debug build measures itself; build with -c release.")
    #else
    let place = try Workplace(in: directory)
    defer { place.remove() }
    let options = SweepOptions(
      rounds: rounds, seconds: seconds, sweeps: sweeps, servers: try ServerKind.choose(servers, or: fallback),
      holdfast: holdfast, bench: CommandLine.arguments[0], directory: place.path,
      command: "holdfast-bench \(command) --rounds \(rounds) --seconds \(brief(seconds))"
        + (servers.isEmpty ? "" : " --servers \(servers)"))
    let results = try runSweeps(options)
    let machine = Machine(servers: options.servers, holdfast: holdfast, directory: place.path)
    return SweepReport(options: options, machine: machine, results: results)
    #endif
  }

  /// To Benchmarks when nothing was left out.
  func folder(isWhole: Bool) -> String {
    output ?? (isWhole && servers.isEmpty && rounds >= 3 && !Interruption.isAsked ? "Benchmarks" : ".build/bench")
  }
}

struct GrowthCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "growth", abstract: "Measure how cost grows with the work.",
    discussion: """
      Over queue depth, active connections beside 1,000 idle ones, image size, extents, range locks. Draws growth/*.svg, writes \
      growth/growth.json and renews the tables of growth.md; in .build/bench unless everything is measured.
      """)

  @OptionGroup var arguments: SweepArguments
  @Option(help: "Only sweeps whose names contain one of these: depth, idle, size, extents, locks.") var only = ""

  func run() throws {
    let wanted = only.split(separator: ",")
    let sweeps = [Sweep.depth, .idle, .size, .extents, .locks].filter { sweep in
      wanted.isEmpty || wanted.contains { sweep.rawValue.contains($0) }
    }
    let report = try arguments.measured(
      "growth" + (only.isEmpty ? "" : " --only \(only)"), sweeps, [.holdfast, .nbdkit])
    let folder = arguments.folder(isWhole: wanted.isEmpty)
    try makeFolder(folder + "/growth")
    for (name, plot) in report.pictures { try writeFile("\(folder)/growth/\(name).svg", plot.svg) }
    try writeFile("\(folder)/growth/growth.json", report.json)
    var measured = ["origin": report.origin]
    for sweep in Sweep.allCases where report.results.lines[sweep] != nil {
      measured[sweep.rawValue] = report.table(sweep)
    }
    let page = text(of: "Benchmarks/growth.md")
    guard !page.isEmpty else { throw BenchError("there is no Benchmarks/growth.md to put the tables into") }
    try writeFile("\(folder)/growth.md", try Page.replacing(page, with: measured))
    print("all of it in \(folder)/growth.md and \(folder)/growth/")
  }
}

struct CurvesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "curves", abstract: "Draw throughput and latency of several servers.",
    discussion: """
      Throughput over queue depth and over connections, latency over load. Draws curves/*.svg and writes curves/curves.json; in \
      .build/bench unless everything is measured.
      """)

  @OptionGroup var arguments: SweepArguments

  func run() throws {
    let report = try arguments.measured(
      "curves", [.depth, .connections], [.holdfast, .nbdkitOneThread, .nbdkit, .qemuUring, .nbdServer])
    let folder = arguments.folder(isWhole: true)
    try makeFolder(folder + "/curves")
    let plots =
      report.pictures + [
        ("latency-over-load-depth", report.latencyOverLoad(.depth)),
        ("latency-over-load-connections", report.latencyOverLoad(.connections)),
      ]
    for (name, plot) in plots { try writeFile("\(folder)/curves/\(name).svg", plot.svg) }
    try writeFile("\(folder)/curves/curves.json", report.json)
    print("all of it in \(folder)/curves/")
  }
}
