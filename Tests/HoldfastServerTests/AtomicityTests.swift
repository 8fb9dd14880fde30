// The published contract: requests are atomic. Eight connections fire overlapping requests at 2 MiB; an oracle judges what
// the READs saw.

import BlockBackend
import DaemonHarness
import Foundation
import Locking
import NBDClient
import Oracle
import SparseFile
import Synchronization
import SystemPackage
import Testing

/// Operations of a run, over all connections. About 15 s on two cores.
private let operationCount =
  ProcessInfo.processInfo.environment["HOLDFAST_ATOMICITY_OPERATIONS"].flatMap(Int.init) ?? 100_000

enum FileSystem: String, CaseIterable, Sendable {
  case ext4, xfs, tmpfs

  /// An empty image on it.
  func image(_ scratch: Scratch) throws -> String {
    let directory =
      switch self {
      case .ext4: try scratch.mountFileSystem(["mkfs.ext4", "-q"], sizeBytes: 512 << 20)
      case .xfs: try scratch.mountFileSystem(["mkfs.xfs", "-q"], sizeBytes: 512 << 20)
      case .tmpfs: try scratch.mountTmpfs(sizeBytes: 64 << 20)
      }
    let path = directory + "/disk.img"
    guard FileManager.default.createFile(atPath: path, contents: nil) else {
      throw HarnessError("cannot make \(path)")
    }
    try FileHandle(forWritingTo: URL(filePath: path)).truncate(atOffset: 2 << 20)
    return path
  }
}

@Suite(.serialized) struct AtomicityTests {
  @Test(arguments: FileSystem.allCases) func requestsAreAtomic(on fileSystem: FileSystem) throws {
    try withScratch { scratch in
      let file = try ImageFile.open(path: FilePath(try fileSystem.image(scratch)))
      let seed = UInt64.random(in: 1...UInt64.max)
      let history = try run(seed: seed, operations: operationCount, against: try InProcessServer(file))
      #expect(history.operations.count == operationCount / 8 * 8)
      let violation = history.firstViolation()
      #expect(violation == nil, "seed \(seed): \(violation.map(\.description) ?? "")")
    }
  }

  /// The same run without the range lock, each request in pieces of 64 KiB: the oracle has to notice.
  @Test(arguments: FileSystem.allCases) func withoutTheRangeLockTheyAreTorn(on fileSystem: FileSystem) throws {
    try withScratch { scratch in
      let file = try ImageFile.open(path: FilePath(try fileSystem.image(scratch)))
      let server = try InProcessServer(PiecesBackend(file), guards: GuardSwitches(without: .rangeLock))
      let history = try run(seed: 1, operations: 2_000, against: server)
      #expect(history.firstViolation() != nil, "nobody noticed")
    }
  }

  /// Each request in pieces, with the range lock: whole again.
  @Test func rangeLockHidesThePieces() throws {
    try withScratch { scratch in
      let file = try ImageFile.open(path: FilePath(try FileSystem.tmpfs.image(scratch)))
      let history = try run(seed: 2, operations: 2_000, against: try InProcessServer(PiecesBackend(file)))
      #expect(history.firstViolation() == nil)
    }
  }

  /// Fires a workload, one thread per connection.
  private func run(seed: UInt64, operations: Int, against server: InProcessServer) throws -> History {
    var shape = Workload.Shape()
    shape.operationsPerConnection = operations / shape.connections
    let workload = Workload(seed: seed, shape: shape)
    let clock = EventCounter()
    let clients = try workload.steps.map { _ in try server.client() }
    let results = Locked<[Result<[Oracle.Operation], any Error>]>([])
    DispatchQueue.concurrentPerform(iterations: clients.count) { index in
      let result = Result { try fire(workload.steps[index], at: clients[index], clock) }
      results.withLock { $0.append(result) }
    }
    return History(try results.withLock { try $0.flatMap { try $0.get() } })
  }
}

private func fire(
  _ steps: [Workload.Step], at client: RawClient, _ clock: EventCounter
) throws -> [Oracle.Operation] {
  try steps.map { step in
    let invoked = clock.next()
    let reply = try client.call(
      step.command, offset: step.offsetBytes, length: step.lengthBytes,
      payload: step.kind == .write ? step.payload : nil)
    return step.record(invoked: invoked, completed: clock.next(), succeeded: reply.isSuccess, data: reply.data)
  }
}

extension Workload.Step {
  var command: UInt16 {
    switch kind {
    case .read: Cmd.read
    case .write: Cmd.write
    case .trim: Cmd.trim
    case .writeZeroes: Cmd.writeZeroes
    }
  }
}
