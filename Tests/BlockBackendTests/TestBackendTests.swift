// The backends that other tests rely on.

import BlockBackend
import Dispatch
import Synchronization
import SystemPackage
import TestBackends
import Testing

/// The backends that other tests rely on do what they promise.
@Suite struct TestBackendTests {
  @Test func closedGateHoldsACallUntilItIsReleased() throws {
    let memory = MemoryBackend(sizeBytes: 8192)
    let gate = GateBackend(memory)
    gate.close(.write)
    let thread = DispatchQueue(label: "writer")
    thread.async { try? gate.write([1, 2, 3], at: 100) }
    #expect(gate.waitUntilHeld(.write))
    #expect(try memory.bytes(at: 100, 3) == [0, 0, 0])
    #expect(gate.held == [BackendCall(.write, 100..<103)])
    #expect(gate.finished.isEmpty)
    #expect(gate.release(.write) == BackendCall(.write, 100..<103))
    #expect(gate.waitUntilFinished(.write))
    #expect(try memory.bytes(at: 100, 3) == [1, 2, 3])
    #expect(gate.release(.write) == nil)
  }

  @Test func gateOfOneKindLetsOthersThrough() throws {
    let gate = GateBackend(MemoryBackend(sizeBytes: 8192))
    gate.close(.sync)
    try gate.write([9], at: 0)
    #expect(try gate.bytes(at: 0, 1) == [9])
    #expect(gate.arrived.map(\.kind) == [.write, .read])
  }

  @Test func waitingForAGateEnds() {
    #expect(!GateBackend(MemoryBackend(sizeBytes: 1)).waitUntilHeld(.read, timeoutSeconds: 0.01))
  }

  @Test func openedGateLetsAllGo() {
    let gate = GateBackend(MemoryBackend(sizeBytes: 8192))
    gate.close(.sync, .write)
    // Serial queues have threads of their own; the global one has too few for callers that block.
    for number in 0..<3 { DispatchQueue(label: "caller \(number)").async { try? gate.sync() } }
    #expect(gate.waitUntilHeld(.sync, count: 3))
    gate.open()
    #expect(gate.waitUntilFinished(.sync, count: 3))
  }

  @Test func faultHitsTheChosenCallOnly() throws {
    let backend = FaultBackend(MemoryBackend(sizeBytes: 8192))
    backend.fail(.write, nth: 2, with: .noSpace, at: 77)
    try backend.write([1], at: 0)
    #expect(throws: BackendError(.noSpace, at: 77)) { try backend.write([2], at: 0) }
    #expect(try backend.bytes(at: 0, 1) == [1])
    try backend.write([3], at: 0)
    #expect(try backend.bytes(at: 0, 1) == [3])
  }

  @Test func faultOfARangeSparesOthers() throws {
    let backend = FaultBackend(MemoryBackend(sizeBytes: 8192))
    backend.fail(.read, count: .max, in: 100..<200, with: .ioError)
    #expect(throws: BackendError(.ioError)) { try backend.bytes(at: 199, 10) }
    #expect(try backend.bytes(at: 200, 10).count == 10)
    backend.heal()
    #expect(try backend.bytes(at: 199, 1) == [0])
  }

  @Test func syncedBytesSurviveEveryPowerCut() throws {
    for seed: UInt64 in 0..<50 {
      let disk = PowerCutBackend(sizeBytes: 1 << 20)
      try disk.write([UInt8](repeating: 1, count: 4096), at: 0)
      try disk.sync()
      try disk.write([UInt8](repeating: 2, count: 2048), at: 1024)
      let found = try disk.cutPower(seed: seed).bytes(at: 0, 4096)
      #expect(found[..<1024].allSatisfy { $0 == 1 })
      #expect(found[3072...].allSatisfy { $0 == 1 })
      for sector in 2..<6 {
        let bytes = Set(found[sector * 512..<(sector + 1) * 512])
        #expect(bytes == [1] || bytes == [2], "sector \(sector) is torn, seed \(seed)")
      }
    }
  }

  @Test func powerCutsDiffer() throws {
    var seen: Set<[UInt8]> = []
    for seed: UInt64 in 0..<100 {
      let disk = PowerCutBackend(sizeBytes: 4096)
      for version in 1...3 { try disk.write([UInt8](repeating: UInt8(version), count: 1024), at: 0) }
      let found = try disk.cutPower(seed: seed).bytes(at: 0, 1024)
      seen.insert([found[0], found[512]])
    }
    #expect(seen.count == 16)
  }

  @Test func sameSeedSameRemains() throws {
    func remains() throws -> [UInt8] {
      let disk = PowerCutBackend(sizeBytes: 65_536)
      try disk.write([UInt8](repeating: 7, count: 65_536), at: 0)
      return try disk.cutPower(seed: 99).bytes(at: 0, 65_536)
    }
    #expect(try remains() == remains())
  }

  @Test func failedSyncLosesWhatItWasFor() throws {
    let disk = PowerCutBackend(sizeBytes: 4096)
    disk.failSyncs(with: .ioError)
    try disk.write([5], at: 0)
    #expect(throws: BackendError(.ioError)) { try disk.sync() }
    try disk.sync()
    #expect(try disk.bytes(at: 0, 1) == [5])
    #expect(try disk.cutPower(seed: 1).bytes(at: 0, 1) == [0])
    #expect(throws: BackendError(.ioError, at: 0)) { try disk.bytes(at: 0, 1) }
  }

  @Test func losingAllKeepsOnlyWhatWasSynced() throws {
    let disk = PowerCutBackend(sizeBytes: 4096)
    try disk.write([1], at: 0)
    try disk.sync()
    try disk.zero(0..<512, [])
    #expect(disk.dirtySectors == [0])
    #expect(try disk.cutPowerLosingAll().bytes(at: 0, 2) == [1, 0])
  }

  @Test func memoryTellsHolesFromData() throws {
    let memory = MemoryBackend(sizeBytes: 20_480)
    try memory.write([1], at: 5000)
    try memory.zero(12_288..<16_384, .noHole)
    #expect(
      try memory.extents(of: 100..<20_000, extentsMax: 10) == [
        Extent(lengthBytes: 3996, kind: .hole), Extent(lengthBytes: 4096, kind: .data),
        Extent(lengthBytes: 4096, kind: .hole), Extent(lengthBytes: 4096, kind: .data),
        Extent(lengthBytes: 3616, kind: .hole),
      ])
    try memory.trim(4000..<9000)
    #expect(try memory.extents(of: 0..<8192, extentsMax: 10) == [Extent(lengthBytes: 8192, kind: .hole)])
  }
}
