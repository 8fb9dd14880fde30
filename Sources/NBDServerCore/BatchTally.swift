// What the requests of one batch come to, in plain integers of the worker that serves it: nothing here is shared, and the clock
// is not asked.

package struct BatchTally: Sendable {
  package struct Counts: Sendable, Equatable {
    package var requests = 0
    /// Of these, answered with an error.
    package var errors = 0
    /// Of those answered with success.
    package var bytes = 0
    /// Requests whose duration is not that of the batch.
    package var timedElsewhere = 0

    package init() {}
  }

  private var counts = InlineArray<7, Counts>(repeating: Counts())
  /// A bit for each command that was met.
  private var met: UInt8 = 0

  package init() {}

  package var isEmpty: Bool { met == 0 }

  /// A request was answered with success.
  @inline(__always)
  package mutating func succeeded(_ command: CountedCommand, bytes: Int) {
    let index = command.rawValue
    met |= 1 << UInt8(truncatingIfNeeded: index)
    counts[index].requests &+= 1
    counts[index].bytes &+= bytes
  }

  /// A request was answered with an error.
  package mutating func failed(_ command: CountedCommand) {
    let index = command.rawValue
    met |= 1 << UInt8(truncatingIfNeeded: index)
    counts[index].requests &+= 1
    counts[index].errors &+= 1
  }

  /// One of those that were counted began earlier than the batch.
  package mutating func isTimedElsewhere(_ command: CountedCommand) { counts[command.rawValue].timedElsewhere &+= 1 }

  /// Each command that was met.
  package func tell(_ body: (CountedCommand, Counts) -> Void) {
    var rest = met
    while rest != 0 {
      let index = rest.trailingZeroBitCount
      rest &= rest &- 1
      guard let command = CountedCommand(rawValue: index) else { preconditionFailure("a bit stands for a command") }
      body(command, counts[index])
    }
  }

  package mutating func removeAll() {
    while met != 0 {
      counts[met.trailingZeroBitCount] = Counts()
      met &= met &- 1
    }
  }
}
