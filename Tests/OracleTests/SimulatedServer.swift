// Executes a workload in memory, with requests that overlap in time, and records the history.

import Oracle

struct SimulatedServer {
  /// How a request takes effect.
  enum Execution {
    /// At one moment.
    case whole
    /// Piece by piece, other requests between.
    case pieces(blocks: Int)
    /// At one moment, but READs look at a copy that may be this many events old.
    case stale(events: Int)
  }

  private struct Active {
    var step: Workload.Step
    var invoked: UInt64
    var connection: Int
    /// What is left to do.
    var rest: Range<Int>
    var found: [Run.Content] = []
    var fails = false
  }

  private let execution: Execution
  private let failurePercent: Int
  private var random: SeededGenerator
  private var blocks: [Run.Content]
  private var copies: [[Run.Content]] = []
  private var events: UInt64 = 0

  init(_ execution: Execution, regionBlocks: Int, seed: UInt64, failurePercent: Int = 0) {
    self.execution = execution
    self.failurePercent = failurePercent
    random = SeededGenerator(seed: seed)
    blocks = Array(repeating: .zero, count: regionBlocks)
  }

  mutating func run(_ workload: Workload, inFlightMax: Int) -> History {
    var history = History()
    var waiting = workload.steps.map { $0[...] }
    var active: [Active] = []
    while true {
      let ready = waiting.indices.filter { connection in
        !waiting[connection].isEmpty && active.count { $0.connection == connection } < inFlightMax
      }
      if ready.isEmpty, active.isEmpty { return history }
      events += 1
      let pick = Int.random(in: 0..<(ready.count + active.count), using: &random)
      if pick < ready.count {
        let step = waiting[ready[pick]].removeFirst()
        let fails = Int.random(in: 0..<100, using: &random) < failurePercent
        active.append(
          Active(step: step, invoked: events, connection: ready[pick], rest: step.blocks, fails: fails))
      } else if active[pick - ready.count].rest.isEmpty {
        history.operations.append(finish(active.remove(at: pick - ready.count)))
      } else {
        execute(&active[pick - ready.count])
      }
    }
  }

  private mutating func execute(_ request: inout Active) {
    var source = blocks
    let now: Range<Int>
    switch execution {
    case .whole: now = request.rest
    case .pieces(let count): now = request.rest.prefix(count)
    case .stale(let events):
      now = request.rest
      copies.append(blocks)
      if copies.count > events { copies.removeFirst() }
      source = copies[0]
    }
    for block in now {
      if request.fails && Bool.random(using: &random) { continue }
      switch request.step.kind {
      case .read: request.found.append(source[block])
      case .write: blocks[block] = .written(by: request.step.id)
      case .trim: if Bool.random(using: &random) { blocks[block] = .zero }
      case .writeZeroes: blocks[block] = .zero
      }
    }
    request.rest = now.upperBound..<request.rest.upperBound
  }

  private mutating func finish(_ request: Active) -> Operation {
    let isAnswered = !request.fails || Bool.random(using: &random)
    var seen: [Run] = []
    if !request.fails {
      for (block, content) in zip(request.step.blocks, request.found) {
        seen.append(Run(block..<(block + 1), content))
      }
    }
    return Operation(
      id: request.step.id, kind: request.step.kind, blocks: request.step.blocks, invoked: request.invoked,
      completed: isAnswered ? events : nil, succeeded: !request.fails, seen: seen)
  }
}
