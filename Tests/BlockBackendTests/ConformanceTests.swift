// The backends that live in memory, against the list of what every backend has to do.

import BlockBackend
import SystemPackage
import TestBackends
import Testing

/// The backends that live in memory do what every backend has to do.
@Suite struct ConformanceTests {
  static let sizeBytes: UInt64 = (4 << 20) + 777

  static let backends: [(name: String, make: @Sendable () -> any BlockBackend)] = [
    ("memory", { MemoryBackend(sizeBytes: sizeBytes) }),
    ("power cut", { PowerCutBackend(sizeBytes: sizeBytes) }),
    ("gate, fault", { GateBackend(FaultBackend(MemoryBackend(sizeBytes: sizeBytes))) }),
  ]

  @Test(arguments: backends.map(\.name), ConformanceCheck.all) func conforms(name: String, check: ConformanceCheck)
    throws
  {
    let backend = try #require(Self.backends.first { $0.name == name }).make()
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed): \(name), \(check)")
    try check.run(backend, seed)
  }
}
