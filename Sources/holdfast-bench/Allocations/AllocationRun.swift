// Allocations of a server per request: the same connections ask for some requests and then for five times as many; the slope is
// what one request costs, whatever the rest of the process does.

import DaemonHarness
import Glibc
import Syscalls

struct AllocationResult {
  var few: (requests: Int, allocations: Int)
  var many: (requests: Int, allocations: Int)

  var perRequest: Double {
    Double(many.allocations - few.allocations) / Double(many.requests - few.requests)
  }
}

/// Serves an image of 64 MiB, all of it cached, in `directory` with `library` preloaded. `requests` of each kind, then five times as
/// many. `stacks`: so many allocations of the second part tell where they were made, on standard error.
func countAllocations(
  _ item: AllocationCase, requests: Int, holdfast: String, library: String, directory: String, stacks: UInt64 = 0
) throws -> AllocationResult {
  guard exists(library) else { throw BenchError("there is no \(library); build the product CountAllocations") }
  let image = directory + "/allocations.img"
  let counts = directory + "/allocations.counts"
  defer {
    unlink(image)
    unlink(counts)
  }
  try makeImage(image, isFragmented: !item.isFree)
  let serving = Serving(
    image: image, sizeBytes: 64 << 20, socket: directory + "/nbd.sock", sparePort: 0, holdfast: holdfast, bench: "")
  let environment = ["LD_PRELOAD=\(library)", "HOLDFAST_ALLOCATIONS=\(counts)"]
  let server = try RunningServer(.holdfast, serving, cpus: nil, environment: environment)
  defer { server.end() }
  let parts = [requests, requests, 5 * requests]
  var found: [Int] = []
  let read = { (part: Int) in
    found.append(Int(try AllocationCounts(at: counts).allocations))
    if part == 2, stacks > 0 { try AllocationCounts.wantStacks(stacks, at: counts) }
  }
  switch item.work {
  case .load(let workload): try runParts(parts, workload, on: server.target, before: read)
  case .maps:
    let connection = try ClientConnection(to: server.target, blockStatus: true)
    for (part, count) in parts.enumerated() {
      try read(part)
      for _ in 0..<count { _ = try walkMap(connection) }
    }
    try read(parts.count)
  }
  if stacks > 0 { progress(server.log) }
  // The first part is warm-up.
  return AllocationResult(few: (parts[1], found[2] - found[1]), many: (parts[2], found[3] - found[2]))
}

private func makeImage(_ path: String, isFragmented: Bool) throws {
  let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  guard descriptor >= 0, ftruncate(descriptor, 64 << 20) == 0 else { throw BenchError("\(path): \(errnoText())") }
  defer { close(descriptor) }
  let piece = [UInt8](repeating: 0xa5, count: isFragmented ? 4096 : 1 << 20)
  for index in 0..<(isFragmented ? 5 : 64) {
    let offset = isFragmented ? index * 8192 : index << 20
    guard pwrite(descriptor, piece, piece.count, off_t(offset)) == piece.count else {
      throw BenchError("cannot write \(path): \(errnoText())")
    }
  }
}

/// Runs parts of so many requests, together on all connections, one after the other; `before` is called before each part and after
/// the last, when nothing is in flight.
private func runParts(
  _ parts: [Int], _ workload: Workload, on target: Target, before: (_ part: Int) throws -> Void
) throws {
  let gate = Gate(count: workload.connections + 1)
  let outcomes = Outcomes<Int>()
  for index in 0..<workload.connections {
    try PosixThread.spawn(name: "load") {
      let result = Result<Int, any Error> {
        let connection = try ClientConnection(to: target, structured: workload.structured)
        var loop = try LoadLoop(
          workload, descriptor: connection.descriptor, exportBytes: connection.exportBytes, seed: UInt64(index + 1))
        for (part, count) in parts.enumerated() {
          try gate.arrive(phase: 2 * part + 1)
          try gate.arrive(phase: 2 * part + 2)
          let result = try loop.run(seconds: 60, operations: count / workload.connections)
          if result.errors > 0 { throw BenchError("\(result.errors) requests failed") }
        }
        try gate.arrive(phase: 2 * parts.count + 1)
        try gate.arrive(phase: 2 * parts.count + 2)
        return 0
      }
      if case .failure = result { gate.giveUp() }
      outcomes.end(result)
    }
  }
  do {
    for part in 0...parts.count {
      try gate.arrive(phase: 2 * part + 1)
      try before(part)
      try gate.arrive(phase: 2 * part + 2)
    }
  } catch {
    gate.giveUp()
    _ = try outcomes.wait(count: workload.connections)
    throw error
  }
  _ = try outcomes.wait(count: workload.connections)
}
