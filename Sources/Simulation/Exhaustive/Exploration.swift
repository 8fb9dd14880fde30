// All orders of a small workload: each request may begin, each system call and each sync may end, whenever it can. States that
// have been met are not entered again. In each of them, power might be cut, with any subset of what was not synced.

import BlockBackend
import NBDServerCore

/// One workload in all orders.
package struct Exploration {
  package struct Result: Sendable, Equatable {
    package var finding: String?
    package var states = 0
    package var transitions = 0
    /// States in which everything has been answered.
    package var ends = 0
    /// Contents of the disk that a power cut may leave, over all states.
    package var crashStates = 0
  }

  private let workload: Workload
  private let guards: GuardSwitches
  private let pool = PiecePool()
  private var met: Set<[UInt8]> = []
  private var result = Result()

  package static func explore(_ workload: Workload, guards: GuardSwitches = .allStand) -> Result {
    var exploration = Exploration(workload, guards)
    exploration.explore([])
    return exploration.result
  }

  private init(_ workload: Workload, _ guards: GuardSwitches) {
    self.workload = workload
    self.guards = guards
  }

  private func state(after path: [Int]) -> SmallWorld {
    let world = SmallWorld(workload, pool, guards)
    for choice in path { world.perform(world.choices[choice]) }
    return world
  }

  /// Everything that follows `path`.
  private mutating func explore(_ start: [Int]) {
    var path = start
    let world = state(after: path)
    while result.finding == nil {
      if let finding = world.finding { return fail(finding, path) }
      guard met.insert(world.key).inserted else { return }
      result.states += 1
      let (crashes, loss) = world.crashStates()
      result.crashStates += crashes
      if let loss { return fail(loss, path) }
      let choices = world.choices
      guard let last = choices.indices.last else {
        result.ends += 1
        if let finding = world.conclusion() { fail(finding, path) }
        return
      }
      result.transitions += choices.count
      for choice in 0..<last {
        explore(path + [choice])
        if result.finding != nil { return }
      }
      // The last one goes on where we are: nothing has to be repeated for it.
      world.perform(choices[last])
      path.append(last)
    }
  }

  private mutating func fail(_ what: String, _ path: [Int]) {
    let world = SmallWorld(workload, pool, guards)
    var steps: [String] = []
    for choice in path {
      steps.append("\(world.choices[choice])")
      world.perform(world.choices[choice])
    }
    result.finding = "\(what); \(workload); order: \(steps.joined(separator: ", "))"
  }
}
