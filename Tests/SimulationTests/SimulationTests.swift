// The simulation, shortly: that it finds nothing, that it repeats itself, and that it would find something.

import BlockBackend
import Faults
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

  /// Every effect that a rule can have, and a disk that stays honest: the clients see errors, and nothing wrong.
  @Test(arguments: [
    "write:error=EIO,probability=5%", "write:short=512", "write:short=0,probability=5%",
    "read:error=EIO,probability=5%", "read:short=100,probability=50%", "trim+zero:error=ENOSPC,probability=20%",
    "trim+zero:error=EOPNOTSUPP", "any:delay=50ms,probability=10%", "sync:error=EIO,nth=3", "sync:delay=100ms",
    "any:error=EINTR,probability=20%", "write+allocate:enospc-until-trimmed,nth=20", "status:error=EIO",
    "write:error=EDQUOT,range=0-2K,times=5",
  ])
  func faultRulesGoWrongAndFindNothing(rule: String) throws {
    var options = withPowerCuts
    options.faults = [try FaultRule(parsing: rule)]
    var changed = 0
    for seed in 1...4 as ClosedRange<UInt64> {
      let report = Simulator(options).run(seed: seed)
      #expect(report.finding == nil, "holdfast-sim --seed \(seed) --power-cuts --fault '\(rule)' --trace")
      if report.digest != Simulator(withPowerCuts).run(seed: seed).digest { changed += 1 }
    }
    // Some seeds make no call that the rule is about.
    #expect(changed > 0, "the rule does nothing")
  }

  /// A disk that lies is noticed: else what the simulation says of honest ones means nothing.
  @Test(arguments: ["sync:lose", "write:lose,probability=5%", "trim+zero:lose"])
  func aDiskThatLosesThingsIsFound(rule: String) throws {
    var options = withPowerCuts
    options.faults = [try FaultRule(parsing: rule)]
    let simulator = Simulator(options)
    let finding = (1...20 as ClosedRange<UInt64>).lazy.compactMap { simulator.run(seed: $0).finding }.first
    print("\(rule): \(finding.map { "\($0.rule): \($0.what)" } ?? "nothing")")
    #expect(finding != nil)
  }

  private var withPowerCuts: SimulationOptions {
    var options = SimulationOptions()
    options.cutsPower = true
    return options
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

  /// A guard that matters only when something has failed.
  @Test func smallWorkloadsWithAFailureNoticeAForgottenSync() {
    let failing = Exploration.workloads.lazy.filter { $0.hasFailures && $0.syncCount == 2 }
    let without = GuardSwitches(without: .syncErrorLatch)
    let finding = failing.compactMap { Exploration.explore($0, guards: without).finding }.first
    print("without syncErrorLatch: \(finding ?? "nothing")")
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
