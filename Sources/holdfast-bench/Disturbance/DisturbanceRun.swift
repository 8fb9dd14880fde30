// The 99th percentile of cached 4 KiB reads on one connection, alone and then beside a neighbour: same server, same image.

import DaemonHarness
import Glibc
import Syscalls

/// What was measured, and of whom.
struct DisturbanceCase: Hashable {
  var fileSystem: String
  var server: ServerKind
  var neighbour: Neighbour
  var depth: Int
}

struct DisturbanceSample {
  var aloneMicroseconds: Double
  var disturbedMicroseconds: Double
  /// 50th percentiles.
  var aloneMiddle: Double
  var disturbedMiddle: Double
  /// The 99th percentile while the neighbour works on another server with an image of its own: what it costs all the same.
  var elsewhereMicroseconds: Double?
  /// What the neighbour has had done, the slow client asked for, in its whole life.
  var neighbourRequests: Double

  var ratio: Double { disturbedMicroseconds / aloneMicroseconds }
  var elsewhereRatio: Double? { elsewhereMicroseconds.map { $0 / aloneMicroseconds } }
}

struct DisturbanceOptions {
  var rounds: Int
  var seconds: Double
  var depths: [Int]
  var neighbours: [Neighbour]
  var servers: [ServerKind]
  /// Also measure beside neighbours that are on another server.
  var elsewhere: Bool
  var holdfast: String
  var bench: String
  var directory: String
  var command: String

  fileprivate func server(_ kind: ServerKind, _ image: DisturbedImage, socket: String) throws -> RunningServer {
    let serving = Serving(
      image: image.path, sizeBytes: Region.imageBytes, socket: "\(directory)/\(socket)", sparePort: try freePort(),
      holdfast: holdfast, bench: bench)
    return try RunningServer(kind, serving, cpus: nil)
  }
}

struct DisturbanceResults {
  var order: [DisturbanceCase] = []
  var samples: [DisturbanceCase: [DisturbanceSample]] = [:]
  var failures: [(item: DisturbanceCase, reason: String)] = []

  mutating func add(_ sample: DisturbanceSample, _ item: DisturbanceCase) {
    if samples[item] == nil { order.append(item) }
    samples[item, default: []].append(sample)
  }

  func summary(_ item: DisturbanceCase, _ value: (DisturbanceSample) -> Double?) -> Summary? {
    Summary((samples[item] ?? []).compactMap(value))
  }
}

/// All rounds on the file system of `place`.
func runDisturbances(
  _ options: DisturbanceOptions, in place: String, into results: inout DisturbanceResults
) throws {
  let image = try DisturbedImage(in: place, name: "disturbed")
  let other = options.elsewhere ? try DisturbedImage(in: place, name: "elsewhere") : nil
  defer { for path in [image.path, other?.path].compactMap(\.self) { unlink(path) } }
  let fileSystem = try run("findmnt", ["-n", "-o", "FSTYPE", "-T", place], seconds: 20).orThrow().line
  for round in 0..<options.rounds {
    for depth in options.depths {
      for neighbour in options.neighbours {
        for server in options.servers where neighbour != .bigTrims || server.tool != "nbd-server" {
          if Interruption.isAsked { return }
          let item = DisturbanceCase(fileSystem: fileSystem, server: server, neighbour: neighbour, depth: depth)
          let label = "round \(round + 1)/\(options.rounds)  \(fileSystem)  \(server.rawValue)  QD\(depth)"
          do {
            let sample = try measureDisturbance(item, image, other, options)
            results.add(sample, item)
            progress(
              "\(label)  \(neighbour.rawValue)  p99 \(brief(sample.aloneMicroseconds)) -> "
                + "\(brief(sample.disturbedMicroseconds)) us  \(fixed(sample.ratio, 2))x")
          } catch {
            if Interruption.isAsked { return }
            results.failures.append((item, "\(error)"))
            progress("\(label)  \(neighbour.rawValue)  failed: \(error)")
          }
        }
      }
    }
  }
}

private func measureDisturbance(
  _ item: DisturbanceCase, _ image: DisturbedImage, _ other: DisturbedImage?, _ options: DisturbanceOptions
) throws -> DisturbanceSample {
  try image.prepare(for: item.neighbour)
  let server = try options.server(item.server, image, socket: "nbd.sock")
  defer { server.end() }
  let reads = Workload(
    mix: .randread, firstByte: Region.hot.lowerBound, spanBytes: UInt64(Region.hot.count), depth: item.depth,
    seconds: options.seconds)
  let alone = try runLoad(reads, on: server.target)
  var elsewhere: LoadResult?
  if let other {
    try other.prepare(for: item.neighbour)
    let otherServer = try options.server(item.server, other, socket: "elsewhere.sock")
    defer { otherServer.end() }
    elsewhere = try measured(reads, on: server, beside: item.neighbour, on: otherServer).result
  }
  let (beside, requests) = try measured(reads, on: server, beside: item.neighbour, on: server)
  guard alone.errors + beside.errors + (elsewhere?.errors ?? 0) == 0 else { throw BenchError("reads failed") }
  func microseconds(_ result: LoadResult, _ fraction: Double) -> Double {
    Double(result.latency.percentile(fraction)) / 1000
  }
  return DisturbanceSample(
    aloneMicroseconds: microseconds(alone, 0.99), disturbedMicroseconds: microseconds(beside, 0.99),
    aloneMiddle: microseconds(alone, 0.5), disturbedMiddle: microseconds(beside, 0.5),
    elsewhereMicroseconds: elsewhere.map { microseconds($0, 0.99) }, neighbourRequests: Double(requests))
}

private func measured(
  _ reads: Workload, on server: RunningServer, beside neighbour: Neighbour, on other: RunningServer
) throws -> (result: LoadResult, requests: Int) {
  let neighbour = try NeighbourRun(neighbour, on: other.target)
  let result = Result { try runLoad(reads, on: server.target) }
  try neighbour.stop()
  return (try result.get(), neighbour.operations)
}
