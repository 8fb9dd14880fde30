// One server, one case, once.

import DaemonHarness
import Glibc
import Syscalls

struct Sample: Sendable {
  /// In the unit of the case.
  var value = 0.0
  var cpuMicrosecondsPerOperation: Double?
  /// The generator's own.
  var clientMicrosecondsPerOperation: Double?
  var p50Microseconds: Double?
  var p99Microseconds: Double?
  /// Of the processors, taken by what has no part in the measurement.
  var othersPercent: Double?
}

/// Measures `item` on a server that runs already.
func measure(_ item: Case, on server: RunningServer, seconds: Double?) throws -> Sample {
  var before = server.use()
  var clientBefore = ownCPUMicroseconds()
  let stamp = {
    before = server.use()
    clientBefore = ownCPUMicroseconds()
  }
  switch item.work {
  case .load(var workload):
    workload.seconds = seconds ?? item.seconds
    // Long enough for the kernel's memory of the sockets to have been in use (Benchmarks/runs.md).
    workload.warmUpSeconds = item.image == .cold ? 0 : 0.6
    let result = try runLoad(workload, on: server.target, cpus: item.cpus?.client, between: stamp)
    if result.errors > 0 { throw BenchError("\(result.errors) of \(result.operations) requests failed") }
    return sample(result, server, before, clientBefore)
  case .connects(let clients):
    let result = try runConnects(clients: clients, seconds: seconds ?? item.seconds, on: server.target, between: stamp)
    return sample(result, server, before, clientBefore)
  case .idle(let connections):
    return try measureIdle(connections, server)
  case .map:
    let start = MonotonicClock.nanoseconds
    let extents = try walkMap(on: server.target)
    guard extents == 100_000 else { throw BenchError("the map has \(extents) extents, not 100000") }
    let seconds = Double(MonotonicClock.nanoseconds - start) / 1e9
    return Sample(value: seconds, cpuMicrosecondsPerOperation: server.use().cpuMicroseconds - before.cpuMicroseconds)
  case .tool(let arguments, let runs, let operations):
    let line = arguments.map { $0 == "URI" ? server.uri() : $0 }
    var seconds = 0.0
    for _ in 0..<runs { seconds += try timeTool(line) }
    // A server with a process for each connection needs a moment to end it.
    usleep(50_000)
    let cpu = server.use().cpuMicroseconds - before.cpuMicroseconds
    return Sample(
      value: seconds / Double(runs), cpuMicrosecondsPerOperation: cpu / Double(runs * operations))
  }
}

private func sample(
  _ result: LoadResult, _ server: RunningServer, _ before: ProcessUse, _ clientBefore: Double
) -> Sample {
  let operations = Double(max(1, result.operations))
  return Sample(
    value: result.perSecond,
    cpuMicrosecondsPerOperation: (server.use().cpuMicroseconds - before.cpuMicroseconds) / operations,
    clientMicrosecondsPerOperation: (ownCPUMicroseconds() - clientBefore) / operations,
    p50Microseconds: Double(result.latency.percentile(0.5)) / 1000,
    p99Microseconds: Double(result.latency.percentile(0.99)) / 1000)
}

/// Memory of the server for each of `connections` that ask for nothing, beyond what it has with 8.
private func measureIdle(_ connections: Int, _ server: RunningServer) throws -> Sample {
  let idle = IdleConnections()
  try idle.open(8, on: server.target)
  usleep(500_000)
  let before = server.use(memory: true)
  try idle.open(connections, on: server.target)
  // Long enough for a server to notice that they are quiet.
  usleep(1_000_000)
  let after = server.use(memory: true)
  let kibibytes = ((after.memoryKiB ?? 0) - (before.memoryKiB ?? 0)) / Double(connections)
  // A page more or less for a thousand connections is nothing to divide by.
  return Sample(value: max(kibibytes, 0.01))
}

private func timeTool(_ line: [String]) throws -> Double {
  let start = MonotonicClock.nanoseconds
  let child = try Child(line[0], Array(line.dropFirst()), outputPath: "/dev/null")
  let end = start + 120_000_000_000
  while child.status() == nil {
    if MonotonicClock.nanoseconds > end {
      child.end()
      throw BenchError("\(line.joined(separator: " ")) took more than 120 s")
    }
    usleep(300)
  }
  let seconds = Double(MonotonicClock.nanoseconds - start) / 1e9
  guard child.status() == .exited(0) else { throw BenchError("\(line.joined(separator: " ")) failed") }
  return seconds
}
