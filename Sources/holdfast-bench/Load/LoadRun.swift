// All connections of a load: connected first, warmed up, then measured together.

import Glibc
import Locking
import Synchronization
import Syscalls

/// Lets `count` threads wait for each other, once for each phase; also told to give up.
final class Gate: Sendable {
  private let count: Int
  private let arrived = Atomic<Int>(0)
  private let isBroken = Atomic<Bool>(false)

  init(count: Int) { self.count = count }

  func giveUp() { isBroken.store(true, ordering: .releasing) }

  /// Returns when all have come to `phase` (1, 2, …), at the latest after 60 s.
  func arrive(phase: Int) throws {
    arrived.add(1, ordering: .acquiringAndReleasing)
    let end = MonotonicClock.nanoseconds + 60_000_000_000
    while arrived.load(ordering: .acquiring) < phase * count {
      if isBroken.load(ordering: .acquiring) { throw BenchError("another connection failed") }
      if MonotonicClock.nanoseconds > end { throw BenchError("the other connections are not ready after 60 s") }
      usleep(100)
    }
  }
}

/// What threads leave for the one that started them.
final class Outcomes<Value: Sendable>: Sendable {
  private let state = Locked<(values: [Value], errors: [any Error], ended: Int)>(([], [], 0))

  func end(_ value: Result<Value, any Error>) {
    state.withLock {
      switch value {
      case .success(let value): $0.values.append(value)
      case .failure(let error): $0.errors.append(error)
      }
      $0.ended += 1
    }
  }

  func haveEnded(count: Int) -> Bool { state.withLock { $0.ended >= count } }

  /// Waits for `count` threads, which bound their own time.
  func wait(count: Int) throws -> [Value] {
    while state.withLock({ $0.ended }) < count { usleep(500) }
    return try state.withLock {
      if let error = $0.errors.first { throw error }
      return $0.values
    }
  }
}

/// Runs `workload`; `between` is called when everybody is warm and nobody measures yet.
func runLoad(
  _ workload: Workload, on target: Target, cpus: UInt64? = nil, between: () throws -> Void = {}
) throws -> LoadResult {
  let gate = Gate(count: workload.connections + 1)
  let outcomes = Outcomes<LoadResult>()
  for index in 0..<workload.connections {
    try PosixThread.spawn(name: "load") {
      let result = Result<LoadResult, any Error> {
        if let cpus { try PosixThread.run(onCPUs: cpus) }
        return try loadOneConnection(workload, target, seed: workload.seed &* 1000 &+ UInt64(index), gate)
      }
      if case .failure = result { gate.giveUp() }
      outcomes.end(result)
    }
  }
  do {
    try gate.arrive(phase: 1)
    try between()
    try gate.arrive(phase: 2)
  } catch {
    gate.giveUp()
    _ = try outcomes.wait(count: workload.connections)
    throw error
  }
  var total = LoadResult()
  for result in try outcomes.wait(count: workload.connections) {
    total.operations += result.operations
    total.errors += result.errors
    total.seconds = max(total.seconds, result.seconds)
    total.latency.add(result.latency)
  }
  return total
}

private func loadOneConnection(
  _ workload: Workload, _ target: Target, seed: UInt64, _ gate: Gate
) throws -> LoadResult {
  let connection = try ClientConnection(to: target, structured: workload.structured)
  var loop = try LoadLoop(
    workload, descriptor: connection.descriptor, exportBytes: connection.exportBytes, seed: seed)
  if workload.warmUpSeconds > 0 { _ = try loop.run(seconds: workload.warmUpSeconds) }
  try gate.arrive(phase: 1)
  try gate.arrive(phase: 2)
  return try loop.run(seconds: workload.seconds)
}
