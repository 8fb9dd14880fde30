// The whole comparison: rounds of cases, each on every server, started afresh, in an order that rotates.

import DaemonHarness
import Glibc
import Syscalls

struct BenchOptions {
  var rounds: Int
  /// Nil: as each case says.
  var seconds: Double?
  /// Every server in every round, those too that are out of reach.
  var measuresAll = false
  /// Measurements beside which others take more of the processors than this are repeated; nil: none are.
  var quietPercent: Double?
  var cases: [Case]
  var servers: [ServerKind]
  var holdfast: String
  var bench: String
  /// Holds the images; on the file system that is to be measured.
  var directory: String
  /// What can be typed to have the same again.
  var command: String
}

/// All samples of a run, by case and server.
struct BenchResults {
  var samples: [String: [ServerKind: [Sample]]] = [:]
  var failures: [(item: String, server: ServerKind, reason: String)] = []
  var commandLines: [ServerKind: String] = [:]

  mutating func add(_ sample: Sample, _ item: Case, _ kind: ServerKind) {
    samples[item.name, default: [:]][kind, default: []].append(sample)
  }

  func summary(_ item: Case, _ kind: ServerKind, _ value: (Sample) -> Double?) -> Summary? {
    Summary((samples[item.name]?[kind] ?? []).compactMap(value))
  }

  /// Whether `kind` is not measured in `round` (from 0): what failed once would fail again, and half a median is none; and what
  /// is out of reach of both comparisons need not be known to the last digit.
  func isLeftOut(_ item: Case, _ kind: ServerKind, of round: Int, _ measuresAll: Bool) -> Bool {
    if failures.contains(where: { $0.item == item.name && $0.server == kind }) { return true }
    return !measuresAll && round >= 2 && isOutOfReach(item, kind)
  }

  /// Only shown, or a peer that in both of the first two rounds was less than 2/3 as fast as the best and cost more than 3/2
  /// of what the cheapest did.
  func isOutOfReach(_ item: Case, _ kind: ServerKind) -> Bool {
    if kind == .holdfast { return false }
    guard kind.isPeer(in: item) else { return true }
    guard let own = samples[item.name]?[kind], own.count >= 2 else { return false }
    return (0..<2).allSatisfy { round in
      let peers = ServerKind.allCases.filter { $0.isPeer(in: item) }
        .compactMap { samples[item.name]?[$0] }.filter { $0.count > round }.map { $0[round] }
      let isSlow = peers.contains { item.unit.ratio(own[round].value, to: $0.value) < 2.0 / 3 }
      guard let cost = own[round].cpuMicrosecondsPerOperation else { return isSlow }
      let isDear = peers.contains { ($0.cpuMicrosecondsPerOperation ?? cost) * 1.5 < cost }
      return isSlow && isDear
    }
  }
}

func runBenchmarks(_ options: BenchOptions) -> BenchResults {
  var results = BenchResults()
  let images = Images(directory: options.directory)
  let start = MonotonicClock.nanoseconds
  for round in 0..<options.rounds {
    for (index, item) in options.cases.enumerated() {
      for step in options.servers.indices {
        let kind = options.servers[(step + round + index) % options.servers.count]
        if Interruption.isAsked { return results }
        guard item.includes(kind), !results.isLeftOut(item, kind, of: round, options.measuresAll) else { continue }
        let label = "round \(round + 1)/\(options.rounds)  \(item.name)  \(kind.rawValue)"
        do {
          let sample = try measureQuietly(item, kind, options, images, &results)
          results.add(sample, item, kind)
          let cpu = sample.cpuMicrosecondsPerOperation.map { "  \(brief($0)) us CPU" } ?? ""
          let late = sample.p99Microseconds.map { "  p99 \(brief($0)) us" } ?? ""
          let others = sample.othersPercent.map { "  others \(fixed($0, 0)) %" } ?? ""
          progress("\(label)  \(brief(sample.value)) \(item.unit.rawValue)\(cpu)\(late)\(others)")
        } catch {
          // Ctrl-C reaches the servers as well.
          if Interruption.isAsked { return results }
          results.failures.append((item.name, kind, "\(error)"))
          progress("\(label)  failed: \(error)")
        }
      }
    }
    let minutes = Double(MonotonicClock.nanoseconds - start) / 60e9
    progress("round \(round + 1) of \(options.rounds) done after \(fixed(minutes, 1)) minutes")
  }
  return results
}

/// The first sample that is quiet enough, or after ten the one that others disturbed least; never chosen by its result.
private func measureQuietly(
  _ item: Case, _ kind: ServerKind, _ options: BenchOptions, _ images: Images, _ results: inout BenchResults
) throws -> Sample {
  var best = try measureAfresh(item, kind, options, images, &results)
  guard let quietPercent = options.quietPercent else { return best }
  var attempts = 1
  while attempts < 10, !Interruption.isAsked, best.othersPercent ?? 0 > quietPercent {
    usleep(500_000)
    let sample = try measureAfresh(item, kind, options, images, &results)
    if sample.othersPercent ?? 0 < best.othersPercent ?? 0 { best = sample }
    attempts += 1
  }
  return best
}

private func measureAfresh(
  _ item: Case, _ kind: ServerKind, _ options: BenchOptions, _ images: Images, _ results: inout BenchResults
) throws -> Sample {
  try images.prepare(item.image)
  let serving = Serving(
    image: images.path(item.image), sizeBytes: item.image.sizeBytes, readOnly: item.readOnly,
    socket: "\(options.directory)/nbd.sock", tcpPort: item.tcp ? try freePort() : nil, sparePort: try freePort(),
    holdfast: options.holdfast, bench: options.bench)
  let server = try RunningServer(kind, serving, cpus: item.cpus?.server)
  defer {
    server.end()
    if kind == .qemuNative { images.isStale(item.image) }
  }
  if results.commandLines[kind] == nil, !item.tcp, !item.readOnly {
    results.commandLines[kind] = server.commandLine.map {
      $0.replacing(options.directory + "/", with: "").replacing(options.holdfast, with: "holdfast")
        .replacing(options.bench, with: "holdfast-bench")
    }.joined(separator: " ")
  }
  let disturbance = Disturbance(beside: server.pid)
  var sample = try measure(item, on: server, seconds: options.seconds)
  sample.othersPercent = disturbance.percent(beside: server.pid)
  return sample
}

/// One line on standard error.
func progress(_ line: String) {
  let bytes = Array((line + "\n").utf8)
  _ = write(2, bytes, bytes.count)
}
