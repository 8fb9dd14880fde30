// The command line: `run` compares servers, `load` puts one under load, `null-server` shows the generator's own cost.

import ArgumentParser
import DaemonHarness
import Glibc
import Syscalls

@main
struct HoldfastBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "holdfast-bench", abstract: "Measures NBD servers.",
    subcommands: [
      RunCommand.self, AllocationsCommand.self, CurvesCommand.self, DisturbanceCommand.self, GrowthCommand.self,
      LoadCommand.self, NullServerCommand.self, SnapshotCommand.self,
    ])
}

struct NullServerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "null-server", abstract: "Answer requests without touching a file, until killed.")

  @Option(help: "Listen on a Unix socket.") var unix: String?
  @Option(help: "Listen on this port of 127.0.0.1.") var tcpPort: UInt16?
  @Option(help: "Bytes of the export.") var size: UInt64 = 1 << 30

  func run() throws { try NullServer.serve(unix: unix, port: tcpPort, sizeBytes: size) }
}

extension Mix: ExpressibleByArgument {}

struct LoadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "load", abstract: "Put a running server under load.")

  @Option(help: "The server's Unix socket.") var unix: String?
  @Option(help: "The server's port of 127.0.0.1.") var tcpPort: UInt16?
  @Option(help: "The name of the export.") var export = ""
  @Option(help: "What to ask for.") var mix = Mix.randread
  @Option(help: "Bytes of a request.") var block = 4096
  @Option(help: "Requests in flight on each connection.") var depth = 16
  @Option(help: "Connections, each with a thread.") var connections = 1
  @Option(help: "How long.") var seconds = 1.0
  @Option(help: "The same seed asks for the same blocks.") var seed: UInt64 = 1
  @Flag(help: "One send for each request.") var sendEach = false
  @Flag(help: "Ask for structured replies.") var structured = false
  @Option(help: "Show the CPU time of this process and its children.") var serverPid: Int32?

  func validate() throws {
    guard (unix == nil) != (tcpPort == nil) else { throw ValidationError("Give --unix or --tcp-port.") }
    guard (1...4096).contains(depth), (1...1024).contains(connections) else {
      throw ValidationError("--depth is 1 to 4096, --connections 1 to 1024.")
    }
    guard (1...(32 << 20)).contains(block) else { throw ValidationError("--block is 1 to 33554432.") }
    guard seconds > 0, seconds <= 3600 else { throw ValidationError("--seconds is more than 0 and at most 3600.") }
  }

  func run() throws {
    signal(SIGPIPE, SIG_IGN)
    let address = tcpPort.map { SocketAddress.ipv4(bytes: [127, 0, 0, 1], port: $0) } ?? .unix(path: unix ?? "")
    let workload = Workload(
      mix: mix, blockBytes: block, depth: depth, connections: connections, sendsEach: sendEach, structured: structured,
      seconds: seconds, seed: seed)
    var before: ProcessUse?
    var ownBefore = 0.0
    let result = try runLoad(workload, on: Target(address: address, export: export)) {
      before = serverPid.map { ProcessUse(of: $0) }
      ownBefore = ownCPUMicroseconds()
    }
    let operations = Double(max(1, result.operations))
    print("\(brief(result.perSecond)) op/s, \(brief(result.perSecond * Double(block) / Double(1 << 20))) MiB/s")
    let points = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("most", 1)]
    let latencies = points.map { "\($0.0) \(brief(Double(result.latency.percentile($0.1)) / 1000))" }
    print("latency in us: \(latencies.joined(separator: ", "))")
    if let before, let serverPid {
      let used = ProcessUse(of: serverPid).cpuMicroseconds - before.cpuMicroseconds
      print("server CPU: \(brief(used / operations)) us an operation")
    }
    print("client CPU: \(brief((ownCPUMicroseconds() - ownBefore) / operations)) us an operation")
    if result.errors > 0 { throw BenchError("\(result.errors) of \(result.operations) requests failed") }
  }
}
