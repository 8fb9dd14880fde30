// A daemon that is watched, and what clients need to know of it.

import DaemonHarness
import Glibc
import Locking

/// Shared by the threads of its clients.
final class Target: Sendable {
  static let sizeBytes: UInt64 = 256 << 20

  let name: String
  let isFaulty: Bool
  let socket: String
  let port: UInt16

  private struct Counts {
    var requests = 0
    var errors = 0
    var connections = 0
  }
  private let counts = Locked(Counts())

  init(name: String, isFaulty: Bool, socket: String, port: UInt16) {
    (self.name, self.isFaulty, self.socket, self.port) = (name, isFaulty, socket, port)
  }

  func count(requests: Int = 0, errors: Int = 0, connections: Int = 0) {
    counts.withLock {
      $0.requests += requests
      $0.errors += errors
      $0.connections += connections
    }
  }

  var summary: String {
    counts.withLock { "\($0.requests) requests (\($0.errors) errors), \($0.connections) connections" }
  }
}

/// Used by one thread.
struct Patient {
  let target: Target
  let daemon: Daemon
  private(set) var samples: [Sample] = []

  init(_ name: String, in scratch: Scratch, faults: [String]) throws {
    let image = try scratch.makeImage("\(name).img", sizeBytes: Target.sizeBytes)
    daemon = try Daemon.start(
      in: scratch, ["--log-level", "critical"] + faults.flatMap { ["--fault", $0] } + [image], tcp: true,
      socket: "\(name).sock")
    target = Target(name: name, isFaulty: !faults.isEmpty, socket: daemon.socket, port: try daemon.port())
  }

  mutating func takeSample() {
    samples.append(
      Sample(
        residentKiB: Int(daemon.residentBytes >> 10),
        proportionalKiB: field("Pss:", of: "/proc/\(daemon.pid)/smaps_rollup"), descriptors: daemon.descriptorCount,
        threads: daemon.threadCount))
  }
}

private func field(_ name: String, of path: String) -> Int {
  for line in text(of: path).split(separator: "\n") where line.hasPrefix(name) {
    return line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
  }
  return 0
}
