// `holdfast-bench disturbance`: what one client can do to the latency of another.

import ArgumentParser
import DaemonHarness

struct DisturbanceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "disturbance", abstract: "Measure cached reads beside clients that make trouble.",
    discussion: """
      On the file system of the directory and, as root, on an XFS of its own. Writes disturbance.md and disturbance.json; to \
      .build/bench unless everything is measured.
      """)

  @Option(help: "Rounds.") var rounds = 5
  @Option(help: "Seconds of each load.") var seconds = 0.4
  @Option(help: "Queue depths of the reads, separated by commas.") var depths = "1,4"
  @Option(help: "Only neighbours whose names contain one of these, separated by commas.") var neighbours = ""
  @Option(help: "These servers, separated by commas.") var servers = "holdfast"
  @Option(help: "The holdfast to measure.") var holdfast = ".build/release/holdfast"
  @Option(help: "Where the images go: 4 GiB. (default: TMPDIR or /tmp)") var directory: String?
  @Option(help: "Where the results go.") var output: String?
  @Flag(help: "Not on XFS.") var noXFS = false
  @Flag(help: "Measure also beside neighbours on a second server with an image of its own (4 GiB more).")
  var elsewhere = false

  private var chosenDepths: [Int] { depths.split(separator: ",").compactMap { Int($0) } }

  func validate() throws {
    guard (1...100).contains(rounds), (0.01...60).contains(seconds) else {
      throw ValidationError("--rounds is 1 to 100, --seconds 0.01 to 60.")
    }
    guard !chosenDepths.isEmpty, chosenDepths.allSatisfy({ (1...64).contains($0) }) else {
      throw ValidationError("--depths are 1 to 64.")
    }
  }

  func run() throws {
    #if DEBUG
    throw ValidationError("A debug build measures itself; build with -c release.")
    #else
    if !noXFS { LoopXFS.isolate() }
    let wanted = neighbours.split(separator: ",")
    let place = try Workplace(in: directory)
    defer { place.remove() }
    let options = DisturbanceOptions(
      rounds: rounds, seconds: seconds, depths: chosenDepths,
      neighbours: Neighbour.allCases.filter { item in wanted.isEmpty || wanted.contains { item.rawValue.contains($0) }
      },
      servers: try ServerKind.choose(servers), elsewhere: elsewhere, holdfast: holdfast,
      bench: CommandLine.arguments[0],
      directory: place.path, command: command)
    var results = DisturbanceResults()
    try runDisturbances(options, in: place.path, into: &results)
    if !noXFS, !Interruption.isAsked, let xfs = try LoopXFS.make(in: place.path) {
      defer { xfs.remove() }
      try runDisturbances(options, in: xfs.path, into: &results)
    }
    let machine = Machine(servers: options.servers, holdfast: holdfast, directory: place.path)
    let report = DisturbanceReport(options: options, machine: machine, results: results)
    let isComplete = wanted.isEmpty && !noXFS && rounds >= 5 && depths == "1,4" && !Interruption.isAsked
    let folder = output ?? (isComplete ? "Benchmarks" : ".build/bench")
    try makeFolder(folder)
    try writeFile("\(folder)/disturbance.md", report.markdown)
    try writeFile("\(folder)/disturbance.json", report.json)
    print(report.table.text + report.verdict + "all of it in \(folder)/disturbance.md and disturbance.json")
    if results.failures.contains(where: { $0.item.server == .holdfast }) { throw ExitCode.failure }
    #endif
  }

  private var command: String {
    "holdfast-bench disturbance --rounds \(rounds) --seconds \(brief(seconds)) --depths \(depths) --servers \(servers)"
      + (neighbours.isEmpty ? "" : " --neighbours '\(neighbours)'") + (noXFS ? " --no-xfs" : "")
      + (elsewhere ? " --elsewhere" : "")
  }
}
