// What one process of a campaign does: every n-th seed or workload. It says what it begins before it begins it, so that the one
// that a crash was in is known.

import BlockBackend
import Foundation
import Simulation

struct Share {
  private let command: HoldfastSim

  init(_ command: HoldfastSim) { self.command = command }

  func run(_ options: SimulationOptions) {
    let stride = command.stride ?? 1
    if command.exhaustive { return explore(stride, options.guards) }
    let simulator = Simulator(options)
    var seed = command.from + UInt64(command.share)
    let end = command.from + UInt64(command.seeds ?? 1)
    while seed < end {
      say("begin \(seed)")
      let report = simulator.run(seed: seed)
      if let finding = report.finding { say("bad \(seed) \(finding.rule): \(finding.what)") }
      let counts = [
        1, report.requests, report.answered, report.steps, report.faults, report.powerCuts, report.kills, report.resets,
        report.failedSyncs, report.durableChecked,
      ]
      say("end \(counts.map(String.init).joined(separator: " "))")
      seed += UInt64(stride)
    }
  }

  private func explore(_ stride: Int, _ guards: GuardSwitches) {
    var index = command.share
    let workloads = Exploration.workloads
    while index < workloads.count {
      say("begin \(index)")
      let result = Exploration.explore(workloads[index], guards: guards)
      if let finding = result.finding { say("bad \(index) \(finding)") }
      say("end 1 \(result.states) \(result.transitions) \(result.ends) \(result.crashStates)")
      index += stride
    }
  }
}

/// At once, whoever reads.
private func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
