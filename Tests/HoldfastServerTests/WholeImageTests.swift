// The operator's hands on a whole image: a lock on everything, a flush, and the end of a latched error.

import BlockBackend
import DaemonHarness
import Dispatch
import Foundation
import HoldfastServer
import Locking
import NBDClient
import NBDServerCore
import SystemPackage
import TestBackends
import Testing

@Suite struct WholeImageTests {
  private let gate: GateBackend
  private let server: InProcessServer

  init() throws {
    gate = GateBackend(remoteMemory(sizeBytes: 4 << 20))
    server = try InProcessServer(gate)
  }

  /// Runs `body` on a thread of its own.
  private func elsewhere(_ body: @escaping @Sendable () -> Void) -> DispatchSemaphore {
    let done = DispatchSemaphore(value: 0)
    Thread {
      body()
      done.signal()
    }.start()
    return done
  }

  @Test func itWaitsForWritesInFlightAndLaterOnesWaitForIt() throws {
    let (first, second) = (try server.client(), try server.client())
    let (gate, image) = (gate, server.image)
    gate.close(.write)
    try first.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(1, 4096))
    #expect(gate.waitUntilHeld(.write))
    let mayEnd = DispatchSemaphore(value: 0)
    let order = Locked<[String]>([])
    let done = elsewhere {
      try? image.withEverythingLocked(.shared, waitMilliseconds: 10_000, mutates: false) {
        () throws(BackendError) in
        order.withLock { $0.append("locked, \(gate.finished.count { $0.kind == .write }) written") }
        mayEnd.wait()
      }
    }
    #expect(eventually(seconds: 5) { image.lockCounts.waiting == 1 })
    // Far away from the first: only the lock on everything is in its way.
    try second.submit(Cmd.write, offset: 2 << 20, length: 4096, payload: bytes(2, 4096))
    #expect(eventually(seconds: 5) { image.lockCounts.waiting == 2 })
    #expect(order.withLock { $0.isEmpty })
    gate.open()
    #expect(try first.receiveReply().isSuccess)
    #expect(eventually(seconds: 5) { order.withLock { $0 == ["locked, 1 written"] } })
    #expect(second.staysSilent())
    // READs go on beside a shared one.
    #expect(try server.client().read(0, 4096).data == bytes(1, 4096))
    mayEnd.signal()
    done.wait()
    #expect(try second.receiveReply().isSuccess)
    #expect(image.lockCounts == (0, 0))
  }

  @Test func anExclusiveOneKeepsReadersOut() throws {
    let client = try server.client()
    let (image, mayEnd) = (server.image, DispatchSemaphore(value: 0))
    let done = elsewhere {
      try? image.withEverythingLocked(.exclusive, waitMilliseconds: 10_000, mutates: true) {
        () throws(BackendError) in mayEnd.wait()
      }
    }
    #expect(eventually(seconds: 5) { image.lockCounts.held == 1 })
    try client.submit(Cmd.read, offset: 0, length: 4096)
    #expect(client.staysSilent())
    mayEnd.signal()
    done.wait()
    #expect(try client.receiveReply().isSuccess)
  }

  /// A request that hangs must not make all others hang behind whoever waits for it.
  @Test func itGivesUpAndWhoWaitedBehindItGoesOn() throws {
    let (first, second) = (try server.client(), try server.client())
    let (gate, image) = (gate, server.image)
    gate.close(.write)
    try first.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(1, 4096))
    #expect(gate.waitUntilHeld(.write))
    let isBusy = Locked(false)
    let done = elsewhere {
      do throws(WholeLockError<BackendError>) {
        try image.withEverythingLocked(.shared, waitMilliseconds: 300, mutates: false) { () throws(BackendError) in }
      } catch {
        if case .busy = error { isBusy.withLock { $0 = true } }
      }
    }
    #expect(eventually(seconds: 5) { image.lockCounts.waiting == 1 })
    try second.submit(Cmd.write, offset: 2 << 20, length: 4096, payload: bytes(2, 4096))
    done.wait()
    #expect(isBusy.withLock { $0 })
    // The gate is closed for it as well: it runs, though the first one still does.
    #expect(gate.waitUntilHeld(.write, count: 2))
    gate.open()
    #expect(try first.receiveReply().isSuccess)
    #expect(try second.receiveReply().isSuccess)
    #expect(image.lockCounts == (0, 0))
  }

  @Test func aFlushOfTheOperatorLatchesItsErrorForAll() throws {
    let faults = FaultBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(faults)
    let client = try server.client()
    faults.fail(.sync, with: .ioError)
    #expect(throws: BackendError(.ioError)) { try server.image.flush() }
    #expect(try client.call(Cmd.flush).error == NBDErrno.io)
    #expect(server.image.latchedError == .ioError)
  }

  @Test func afterTheOperatorsWordFlushSyncsAgain() throws {
    let faults = FaultBackend(remoteMemory(sizeBytes: 1 << 20))
    let gate = GateBackend(faults)
    let server = try InProcessServer(gate)
    let client = try server.client()
    faults.fail(.sync, with: .ioError)
    #expect(try client.call(Cmd.flush).error == NBDErrno.io)
    #expect(try client.write(0, bytes(1, 512), flags: CmdFlag.fua).error == NBDErrno.io)
    #expect(try server.image.clearError() == .ioError)
    #expect(try server.image.clearError() == nil)
    #expect(gate.finished.suffix(2).map(\.kind) == [.sync, .forgetCached], "memory may differ from the disk")
    let before = gate.finished.count { $0.kind == .sync }
    #expect(try client.call(Cmd.flush).isSuccess)
    #expect(gate.finished.count { $0.kind == .sync } == before + 1, "nothing was synced")
    #expect(try client.write(0, bytes(2, 512), flags: CmdFlag.fua).isSuccess)
  }

  /// The kernel tells an error once: while one sync of a second command runs, another could be told that all is well (I7).
  @Test func anErrorIsClearedByOneAtATime() throws {
    let faults = FaultBackend(remoteMemory(sizeBytes: 1 << 20))
    let gate = GateBackend(faults)
    let server = try InProcessServer(gate)
    defer { gate.open() }
    faults.fail(.sync, with: .ioError)
    #expect(try server.client().call(Cmd.flush).error == NBDErrno.io)
    gate.close(.sync)
    let first = Locked<Errno?>(nil)
    let ended = DispatchSemaphore(value: 0)
    let image = server.image
    Thread {
      first.withLock { $0 = try? image.clearError() }
      ended.signal()
    }.start()
    #expect(gate.waitUntilHeld(.sync))
    let isRefused = Locked(false)
    Thread {
      do { _ = try image.clearError() } catch { isRefused.withLock { $0 = true } }
      ended.signal()
    }.start()
    #expect(ended.wait(timeout: .now() + 10) == .success && isRefused.withLock { $0 }, "it waits to sync as well")
    gate.open()
    ended.wait()
    #expect(first.withLock { $0 } == .ioError)
    #expect(try server.image.clearError() == nil)
    #expect(gate.arrived.count { $0.kind == .sync } == 3, "nothing was synced without an error to clear")
  }

  /// Requests see the image before or after it; and an image that still cannot be synced keeps its error.
  @Test func anErrorIsClearedBetweenRequestsOrNotAtAll() throws {
    let faults = FaultBackend(remoteMemory(sizeBytes: 1 << 20))
    let gate = GateBackend(faults)
    let server = try InProcessServer(gate)
    defer { gate.open() }
    let client = try server.client()
    faults.fail(.sync, count: 2, with: .ioError)
    #expect(try client.call(Cmd.flush).error == NBDErrno.io)
    #expect(throws: WholeLockError<BackendError>.self) { try server.image.clearError() }
    #expect(server.image.latchedError == .ioError)
    gate.close(.read)
    try client.submit(Cmd.read, offset: 0, length: 512)
    #expect(gate.waitUntilHeld(.read))
    #expect(throws: WholeLockError<BackendError>.self) { try server.image.clearError(waitMilliseconds: 50) }
    #expect(server.image.latchedError == .ioError)
    gate.open()
    #expect(try client.receiveReply().isSuccess)
    #expect(try server.image.clearError() == .ioError)
    #expect(try client.call(Cmd.flush).isSuccess)
  }
}
