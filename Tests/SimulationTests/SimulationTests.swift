// The simulation, shortly: that it finds nothing, that it repeats itself, and that it would find something.

import BlockBackend
import Simulation
import Testing

@Suite struct SimulationTests {
  @Test func seedsAreClean() {
    let simulator = Simulator()
    for seed in 1...40 as ClosedRange<UInt64> {
      let report = simulator.run(seed: seed)
      #expect(report.finding == nil, "holdfast-sim --seed \(seed) --trace")
      #expect(report.requests >= 500)
      #expect(report.clients >= 3)
      #expect(report.faults + report.kills + report.powerCuts + report.resets > 0, "a seed has a fault, \(seed)")
    }
  }

  @Test func powerCutsLoseNothingDurable() {
    var options = SimulationOptions()
    options.cutsPower = true
    let simulator = Simulator(options)
    var durable = 0
    for seed in 1...10 as ClosedRange<UInt64> {
      let report = simulator.run(seed: seed)
      #expect(report.finding == nil, "holdfast-sim --seed \(seed) --power-cuts --trace")
      #expect(report.powerCuts > 0)
      durable += report.durableChecked
    }
    #expect(durable > 0)
  }

  @Test func aSeedRepeatsItselfByteForByte() {
    var traces: [[String]] = []
    for _ in 0..<2 {
      var lines: [String] = []
      let report = Simulator().run(seed: 7) { lines.append($0) }
      lines.append("\(report)")
      traces.append(lines)
    }
    #expect(traces[0].count > 5000)
    #expect(traces[0] == traces[1])
  }

  #if GUARD_SWITCHES
  /// Each guard taken out is found, and the seed that finds it fails in the same way again.
  @Test(arguments: Guard.allCases)
  func aGuardTakenOutIsFound(guard missing: Guard) throws {
    var options = SimulationOptions()
    options.guards = GuardSwitches(without: missing)
    let simulator = Simulator(options)
    for seed in 1...300 as ClosedRange<UInt64> {
      let report = simulator.run(seed: seed)
      guard let finding = report.finding else { continue }
      print("without \(missing): seed \(seed): \(finding.rule): \(finding.what)")
      #expect(simulator.run(seed: seed) == report)
      return
    }
    Issue.record("300 seeds did not notice that \(missing) is missing")
  }
  #endif
}

#if GUARD_SWITCHES
@Suite struct ExplorationTests {
  /// Looked for among every three hundredth workload.
  @Test(arguments: [Guard.rangeLock, .replyAfterSync, .layoutUnderLock, .resumeAfterShortWrite])
  func smallWorkloadsNoticeAGuardTakenOut(guard missing: Guard) {
    let some = stride(from: 0, to: Exploration.workloads.count, by: 300).lazy.map { Exploration.workloads[$0] }
    let finding = some.compactMap { Exploration.explore($0, guards: GuardSwitches(without: missing)).finding }.first
    print("without \(missing): \(finding ?? "nothing")")
    #expect(finding != nil)
  }

  @Test func smallWorkloadsAreClean() {
    for index in stride(from: 0, to: Exploration.workloads.count, by: 1000) {
      let result = Exploration.explore(Exploration.workloads[index])
      #expect(result.finding == nil)
      #expect(result.ends > 0)
    }
  }
}
#endif
