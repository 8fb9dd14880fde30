// `holdfast-bench allocations`: how often the server allocates memory for a request.

import ArgumentParser
import DaemonHarness

struct AllocationsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "allocations", abstract: "Count the server's allocations per request.",
    discussion: "Fails when cached 4 KiB reads or writes in the steady state allocate.")

  @Option(help: "Requests of the first part; the second has five times as many.") var requests = 20_000
  @Option(help: "Only cases whose names contain one of these, separated by commas.") var cases = ""
  @Option(help: "Show where so many allocations were made.") var stacks: UInt64 = 0
  @Option(help: "The holdfast to measure.") var holdfast = ".build/release/holdfast"
  @Option(help: "What counts.") var library = ".build/release/libCountAllocations.so"
  @Option(help: "Where the image goes: 64 MiB. (default: TMPDIR or /tmp)") var directory: String?

  func validate() throws {
    guard (100...10_000_000).contains(requests) else { throw ValidationError("--requests is 100 to 10000000.") }
  }

  func run() throws {
    let wanted = cases.split(separator: ",")
    let place = try Workplace(in: directory)
    defer { place.remove() }
    let library =
      library.hasPrefix("/") ? library : try DaemonHarness.run("/bin/pwd", [], seconds: 5).line + "/" + library
    var table = Table(["requests", "allocations", "five times the requests", "allocations", "for each request"])
    var isFree = true
    for item in AllocationCase.all where wanted.isEmpty || wanted.contains(where: { item.name.contains($0) }) {
      if Interruption.isAsked { throw ExitCode.failure }
      let result = try countAllocations(
        item, requests: item.isFree ? requests : requests / 20, holdfast: holdfast, library: library,
        directory: place.path, stacks: stacks)
      let allocates = result.perRequest >= 0.001
      if item.isFree, allocates { isFree = false }
      table.rows.append([
        "\(item.name): \(result.few.requests)", "\(result.few.allocations)", "\(result.many.requests)",
        "\(result.many.allocations)",
        fixed(result.perRequest, 4) + (item.isFree ? allocates ? " (!)" : "" : ", to show that the counter counts"),
      ])
      if !item.isFree, !allocates { throw BenchError("the counter does not count") }
    }
    print(table.text, terminator: "")
    if !isFree { throw ExitCode.failure }
  }
}
