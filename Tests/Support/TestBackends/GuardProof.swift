// Shows of a guard that its test would miss it: with the guard the invariant holds every time, without it the same scenario
// breaks within ten runs.

import BlockBackend
import Glibc

// Release builds have no switches.
#if DEBUG
package struct GuardProof: Sendable, CustomStringConvertible {
  package let each: Guard
  /// Runs with the guard in which the invariant broke.
  package var failures = 0
  package var runs = 0
  /// Without the guard it broke.
  package var isMissed = false

  package var isSound: Bool { failures == 0 && isMissed }

  package var description: String {
    "\(each): broke in \(failures) of \(runs) runs with the guard; without it \(isMissed ? "it broke" : "nobody noticed")"
  }

  /// Runs with the guard; `make guards` asks for a hundred.
  package static let runsWith = getenv("HOLDFAST_GUARD_RUNS").flatMap { Int(String(cString: $0)) } ?? 3
  private static let runsWithoutMax = 10

  /// - Parameter holds: runs the scenario once and says whether the invariant held.
  package init(_ each: Guard, holds: (GuardSwitches) throws -> Bool) rethrows {
    self.each = each
    while runs < Self.runsWith {
      runs += 1
      if try !holds(.allStand) { failures += 1 }
    }
    for _ in 1...Self.runsWithoutMax where !isMissed {
      isMissed = try !holds(GuardSwitches(without: each))
    }
  }
}
#endif
