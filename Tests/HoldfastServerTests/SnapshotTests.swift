// A snapshot is a state that existed between two requests: the oracle judges it as one READ of the whole region, made under full
// write load. Errors leave nothing behind.

import BlockBackend
import DaemonHarness
import Foundation
import HoldfastServer
import Locking
import NBDClient
import NBDServerCore
import Oracle
import SparseFile
import Synchronization
import SystemPackage
import TestBackends
import Testing

private let needsReflinks = ConditionTrait.enabled(
  if: geteuid() == 0 && find("mkfs.xfs") != nil && find("mkfs.btrfs") != nil,
  "needs root, mkfs.xfs and mkfs.btrfs")

/// Where files can share storage.
enum ReflinkPlace: String, CaseIterable, Sendable {
  case xfs, btrfs

  /// The directory of a fresh file system.
  func mount(_ scratch: Scratch) throws -> String {
    try scratch.mountFileSystem(["mkfs.\(rawValue)", "-q"], sizeBytes: 512 << 20)
  }
}

@Suite(.serialized) struct SnapshotTests {
  private static let regionBytes = 2 << 20
  private static let snapshotCount = 12

  @Test(needsReflinks, arguments: ReflinkPlace.allCases)
  func aSnapshotIsAStateBetweenTwoRequests(on place: ReflinkPlace) throws {
    try withScratch { scratch in
      let seed = printedSeed()
      let violation = try violation(seed: seed, place, scratch, guards: .allStand)
      #expect(violation == nil, "seed \(seed): \(violation?.description ?? "")")
    }
  }

  /// The same run without the range lock: the oracle has to notice.
  @Test(needsReflinks, arguments: ReflinkPlace.allCases)
  func withoutTheLockASnapshotIsTorn(on place: ReflinkPlace) throws {
    try withScratch { scratch in
      let violation = try violation(seed: 1, place, scratch, guards: GuardSwitches(without: .rangeLock))
      #expect(violation != nil, "nobody noticed")
    }
  }

  /// Every request in pieces of 64 KiB, so that each is a chance to come between. Nobody reads but the snapshots: what is found is
  /// found in them.
  private func violation(
    seed: UInt64, _ place: ReflinkPlace, _ scratch: Scratch, guards: GuardSwitches
  ) throws -> Violation? {
    let directory = try place.mount(scratch)
    let path = directory + "/disk.img"
    try Data().write(to: URL(filePath: path))
    try FileHandle(forWritingTo: URL(filePath: path)).truncate(atOffset: UInt64(Self.regionBytes))
    let server = try InProcessServer(PiecesBackend(try ImageFile.open(path: FilePath(path))), guards: guards)
    var shape = Workload.Shape()
    shape.connections = 4
    shape.readWeight = 0
    // More than there is time for: the load ends with the last snapshot.
    shape.operationsPerConnection = 20_000
    let workload = Workload(seed: seed, shape: shape)
    let clock = EventCounter()
    let isOver = Atomic<Bool>(false)
    let answered = Atomic<Int>(0)
    let results = Locked<[Oracle.Operation]>([])
    let clients = try workload.steps.map { _ in try server.client() }
    let image = server.image
    onThreads(clients.count + 1) { index in
      guard index < clients.count else {
        defer { isOver.store(true, ordering: .relaxed) }
        for number in 0..<Self.snapshotCount {
          // However slow the machine is: enough happens between two of them.
          let isBusy = eventually(seconds: 60) { answered.load(ordering: .relaxed) >= 25 * (number + 1) }
          #expect(isBusy, "hardly any load")
          let target = "\(directory)/copy-\(number)"
          let invoked = clock.next()
          let report = try image.snapshot(to: FilePath(target))
          let completed = clock.next()
          #expect(report.sizeBytes == UInt64(Self.regionBytes))
          let data = [UInt8](try Data(contentsOf: URL(filePath: target)))
          #expect(data.count == Self.regionBytes)
          let blocks = 0..<Self.regionBytes / BlockStamp.blockBytes
          results.withLock {
            $0.append(
              Operation(
                id: UInt64(1) << 40 + UInt64(number), kind: .read, blocks: blocks, invoked: invoked,
                completed: completed, seen: BlockStamp.runs(in: data, first: 0)))
          }
        }
        return
      }
      var own: [Oracle.Operation] = []
      for step in workload.steps[index] where !isOver.load(ordering: .relaxed) {
        let invoked = clock.next()
        let reply = try clients[index].call(
          step.command, offset: step.offsetBytes, length: step.lengthBytes,
          payload: step.kind == .write ? step.payload : nil)
        answered.add(1, ordering: .relaxed)
        own.append(step.record(invoked: invoked, completed: clock.next(), succeeded: reply.isSuccess))
      }
      let mine = own
      results.withLock { $0 += mine }
    }
    let history = History(results.withLock { $0 })
    #expect(history.operations.count { $0.kind == .read } == Self.snapshotCount)
    return history.firstViolation()
  }

  /// What stays after an error: nothing that was not there before.
  @Test(needsReflinks) func errorsLeaveNothingBehind() throws {
    try withScratch { scratch in
      let directory = try ReflinkPlace.xfs.mount(scratch)
      let path = try scratch.makeImage(sizeBytes: 1 << 20)
      try FileManager.default.copyItem(atPath: path, toPath: directory + "/disk.img")
      let faults = FaultBackend(try ImageFile.open(path: FilePath(directory + "/disk.img")))
      let gate = GateBackend(faults)
      let server = try InProcessServer(gate)
      let target = FilePath(directory + "/copy")
      func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: directory).sorted() }
      func error(_ wait: Int = 1000) -> SnapshotError? {
        do throws(SnapshotError) {
          _ = try server.image.snapshot(to: target, waitMilliseconds: wait)
          return nil
        } catch { return error }
      }

      // Requests in flight that do not end.
      let client = try server.client()
      gate.close(.write)
      try client.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(1, 4096))
      #expect(gate.waitUntilHeld(.write))
      #expect(error(100) == .busy(milliseconds: 100))
      gate.open()
      #expect(try client.receiveReply().isSuccess)
      #expect(try names() == ["disk.img"])

      // A sync that fails, under the lock.
      #expect(try client.write(0, bytes(2, 4096)).isSuccess)
      faults.fail(.sync, with: .ioError)
      #expect(error() == .syncFailed(.ioError))
      #expect(error() == .syncFailed(.ioError), "the error is latched")
      #expect(try names() == ["disk.img"])
      #expect(try server.image.clearError() == .ioError)

      // A name that is taken, and one in a directory that is not there.
      try Data("mine".utf8).write(to: URL(filePath: target.string))
      guard case .failed(let taken)? = error() else {
        Issue.record("\(target) was replaced")
        return
      }
      #expect(taken.errno == .fileExists)
      #expect(text(of: target.string) == "mine")
      try FileManager.default.removeItem(atPath: target.string)
      #expect(throws: SnapshotError.self) { try server.image.snapshot(to: FilePath("\(directory)/none/copy")) }
      #expect(try names() == ["disk.img"])

      // And then it works.
      #expect(error() == nil)
      #expect(try names() == ["copy", "disk.img"])
    }
  }
}
