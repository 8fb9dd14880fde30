// Deterministic simulation: the daemon's own values, from bytes of a client to plans of system calls, around a network and a
// disk that one seed drives. The same seed does the same, event by event. Pure: no threads, no clock, no system calls.

import BlockBackend
import Faults

package struct SimulationOptions: Sendable {
  /// Requests of each seed, at least.
  package var requestsMin = 500
  /// Every seed cuts power, and often.
  package var cutsPower = false
  package var guards = GuardSwitches.allStand
  /// What goes wrong beside that, as `holdfast serve --fault` has it. A restart of the server begins to count anew.
  package var faults: [FaultRule] = []

  package init() {}
}

/// Runs seeds one after the other. Not for several threads at a time.
package final class Simulator {
  private let options: SimulationOptions
  private let pool = PiecePool()

  package init(_ options: SimulationOptions = SimulationOptions()) { self.options = options }

  /// - Parameter trace: gets each event as a line.
  package func run(seed: UInt64, trace: ((String) -> Void)? = nil) -> SeedReport {
    World(seed: seed, options: options, pool: pool, trace: trace).run()
  }
}
