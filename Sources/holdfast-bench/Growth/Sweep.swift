// What is made larger and larger, and what is drawn of it.

import Glibc

/// One line of a sweep: a server, and how many idle connections it holds meanwhile.
struct SweepLine: Hashable {
  var server: ServerKind
  var idle = 0

  var name: String { idle > 0 ? "\(server.rawValue), \(idle) idle beside" : server.rawValue }
}

enum Sweep: String, CaseIterable {
  case depth
  case connections
  /// Connections beside 1,000 idle ones.
  case idle
  case size
  case sizeMap = "size-map"
  case extents
  case locks

  var title: String {
    switch self {
    case .depth: "random 4 KiB reads, one connection"
    case .connections: "random 4 KiB reads, queue depth 16 on each connection"
    case .idle: "random 4 KiB reads, queue depth 4, beside 1,000 idle connections"
    case .size: "random 4 KiB reads at queue depth 16 of 4,096 blocks spread over the image"
    case .sizeMap: "the whole map of an image with 4,096 blocks of data"
    case .extents: "the whole map of an image, by its extents"
    case .locks: "acquire and release of a range lock beside others in flight"
    }
  }

  var x: Axis {
    switch self {
    case .depth: Axis(label: "requests in flight", scale: .binary)
    case .connections, .idle: Axis(label: "active connections", scale: .binary)
    case .size, .sizeMap: Axis(label: "size of the image", scale: .binary, isBytes: true)
    case .extents: Axis(label: "extents", scale: .decimal)
    case .locks: Axis(label: "requests in the table", scale: .decimal)
    }
  }

  var values: [Int] {
    switch self {
    case .depth: (0...8).map { 1 << $0 }
    case .connections, .idle: (0...6).map { 1 << $0 }
    case .size, .sizeMap: (0...6).map { 1 << (30 + 2 * $0) }
    case .extents: [10, 100, 1000, 10_000, 100_000, 1_000_000]
    case .locks: []
    }
  }

  func lines(_ servers: [ServerKind]) -> [SweepLine] {
    switch self {
    case .depth, .connections, .size: servers.map { SweepLine(server: $0) }
    case .idle:
      servers.map { SweepLine(server: $0, idle: 1000) }
        + (servers.contains(.holdfast) ? [SweepLine(server: .holdfast)] : [])
    case .sizeMap, .extents: servers.filter { $0.tool != "nbd-server" && $0 != .null }.map { SweepLine(server: $0) }
    case .locks: []
    }
  }

  /// What the value of a sample is.
  var unit: String {
    switch self {
    case .depth, .connections, .idle, .size: "op/s"
    case .sizeMap: "ms"
    case .extents: "us an extent"
    case .locks: "ns"
    }
  }

  /// CPU of the server in microseconds, for each…
  var cpuUnit: String? {
    switch self {
    case .depth, .connections, .idle, .size: "operation"
    case .sizeMap: "map"
    case .extents: "extent"
    case .locks: nil
    }
  }
}

/// Samples of sweeps, a list of rounds for each point.
struct SweepResults {
  private(set) var samples: [Sweep: [String: [Int: [Sample]]]] = [:]
  /// Names of the lines of each sweep, in the order in which they came.
  private(set) var lines: [Sweep: [String]] = [:]

  mutating func add(_ sample: Sample, _ sweep: Sweep, _ line: String, _ x: Int) {
    if samples[sweep]?[line] == nil { lines[sweep, default: []].append(line) }
    samples[sweep, default: [:]][line, default: [:]][x, default: []].append(sample)
  }

  func values(_ sweep: Sweep) -> [Int] { Set((samples[sweep] ?? [:]).values.flatMap(\.keys)).sorted() }

  func summary(_ sweep: Sweep, _ line: String, _ x: Int, _ value: (Sample) -> Double?) -> Summary? {
    Summary((samples[sweep]?[line]?[x] ?? []).compactMap(value))
  }
}
