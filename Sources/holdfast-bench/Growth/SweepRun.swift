// Measures sweeps: in each round every line from its least value to its greatest, the lines in an order that rotates.

import DaemonHarness
import Glibc
import Syscalls

struct SweepOptions {
  var rounds: Int
  var seconds: Double
  var sweeps: [Sweep]
  var servers: [ServerKind]
  var holdfast: String
  var bench: String
  var directory: String
  var command: String

  /// On the Unix socket of the directory.
  func server(_ kind: ServerKind, _ image: String, _ sizeBytes: UInt64, connectionsMax: Int? = nil) throws
    -> RunningServer
  {
    let serving = Serving(
      image: image, sizeBytes: sizeBytes, socket: "\(directory)/nbd.sock", sparePort: try freePort(),
      connectionsMax: connectionsMax, holdfast: holdfast, bench: bench)
    return try RunningServer(kind, serving, cpus: nil)
  }
}

func runSweeps(_ options: SweepOptions) throws -> SweepResults {
  var results = SweepResults()
  let images = Images(directory: options.directory)
  for sweep in options.sweeps {
    switch sweep {
    case .depth, .connections, .idle:
      try images.prepare(.main)
      try inRounds(sweep, options) { line in
        try runLoads(sweep, line, options, image: images.path(.main), &results)
      }
    case .size:
      for size in sweep.values where !Interruption.isAsked {
        let image = try SpreadImage(in: options.directory, sizeBytes: UInt64(size))
        defer { image.remove() }
        try inRounds(sweep, options) { line in try runSize(line, options, image, &results) }
      }
    case .sizeMap: break  // Measured with `size`.
    case .extents:
      for count in sweep.values where !Interruption.isAsked {
        let image = try FragmentedImage(in: options.directory, extents: count)
        defer { image.remove() }
        try inRounds(sweep, options) { line in
          let server = try options.server(line.server, image.path, image.sizeBytes)
          defer { server.end() }
          let map = try measureMaps(on: server, extents: count, seconds: options.seconds)
          let sample = Sample(
            value: map.value / Double(count),
            cpuMicrosecondsPerOperation: map.cpuMicrosecondsPerOperation.map { $0 / Double(count) })
          results.tell(sample, .extents, line.name, count)
        }
      }
    case .locks: try runLocks(options, &results)
    }
  }
  return results
}

extension SweepResults {
  fileprivate mutating func tell(_ sample: Sample, _ sweep: Sweep, _ line: String, _ x: Int) {
    add(sample, sweep, line, x)
    let cpu = sample.cpuMicrosecondsPerOperation.map { "  \(brief($0)) us CPU" } ?? ""
    progress("\(sweep.rawValue) \(sweep.x.text(Double(x)))  \(line)  \(brief(sample.value)) \(sweep.unit)\(cpu)")
  }
}

private func inRounds(_ sweep: Sweep, _ options: SweepOptions, _ body: (SweepLine) throws -> Void) throws {
  let lines = sweep.lines(options.servers)
  for round in 0..<options.rounds {
    for step in lines.indices {
      if Interruption.isAsked { return }
      let line = lines[(step + round) % lines.count]
      do { try body(line) } catch {
        if Interruption.isAsked { return }
        throw BenchError("\(sweep.rawValue), \(line.name): \(error)")
      }
    }
  }
}

private func runLoads(
  _ sweep: Sweep, _ line: SweepLine, _ options: SweepOptions, image: String, _ results: inout SweepResults
) throws {
  let server = try options.server(
    line.server, image, ImageKind.main.sizeBytes, connectionsMax: line.idle > 0 ? 2 * line.idle : nil)
  defer { server.end() }
  let idle = IdleConnections()
  if line.idle > 0 {
    try idle.open(line.idle, on: server.target)
    // So that the server has seen that they are quiet.
    usleep(200_000)
  }
  for value in sweep.values where !Interruption.isAsked {
    let workload =
      switch sweep {
      case .depth: Workload(depth: value, seconds: options.seconds)
      case .idle: Workload(depth: 4, connections: value, seconds: options.seconds)
      case .connections, .size, .sizeMap, .extents, .locks:
        Workload(depth: 16, connections: value, seconds: options.seconds)
      }
    results.tell(try measureLoad(workload, on: server), sweep, line.name, value)
  }
  _ = idle
}

private func runSize(
  _ line: SweepLine, _ options: SweepOptions, _ image: SpreadImage, _ results: inout SweepResults
) throws {
  let server = try options.server(line.server, image.path, image.sizeBytes)
  defer { server.end() }
  let reads = Workload(strideBytes: image.strideBytes, depth: 16, seconds: options.seconds)
  results.tell(try measureLoad(reads, on: server), .size, line.name, Int(image.sizeBytes))
  guard Sweep.sizeMap.lines([line.server]).count > 0 else { return }
  var map = try measureMaps(on: server, extents: 2 * SpreadImage.blocks, seconds: options.seconds)
  map.value /= 1000
  results.tell(map, .sizeMap, line.name, Int(image.sizeBytes))
}

private func measureLoad(_ workload: Workload, on server: RunningServer) throws -> Sample {
  try measure(Case(name: "", work: .load(workload), floor: 0, goal: 0), on: server, seconds: workload.seconds)
}

/// The whole map again and again on one connection, for `seconds` at least; microseconds for one.
private func measureMaps(on server: RunningServer, extents: Int, seconds: Double) throws -> Sample {
  let connection = try ClientConnection(to: server.target, blockStatus: true)
  let first = try walkMap(connection)
  guard first == extents else { throw BenchError("the map has \(first) extents, not \(extents)") }
  let before = server.use()
  let start = MonotonicClock.nanoseconds
  var (maps, elapsed) = (0.0, Int64(0))
  repeat {
    _ = try walkMap(connection)
    maps += 1
    elapsed = MonotonicClock.nanoseconds - start
  } while Double(elapsed) < seconds * 1e9
  return Sample(
    value: Double(elapsed) / 1000 / maps,
    cpuMicrosecondsPerOperation: (server.use().cpuMicroseconds - before.cpuMicroseconds) / maps)
}

/// The table of range locks alone, without a server: `holdfast-bench-locks` beside this program.
private func runLocks(_ options: SweepOptions, _ results: inout SweepResults) throws {
  let folder = options.bench.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
  let tool = (folder.isEmpty ? "." : folder) + "/holdfast-bench-locks"
  for _ in 0..<options.rounds where !Interruption.isAsked {
    let said = try run(tool, ["--curve"], seconds: 60).orThrow()
    for line in said.output.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count == 2, let x = Int(fields[0]), let value = Double(fields[1]) else {
        throw BenchError("\(tool) says \(line)")
      }
      results.tell(Sample(value: value), .locks, "range lock table", x)
    }
  }
}
