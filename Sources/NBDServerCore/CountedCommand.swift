// What is counted of each command. The names of the commands here are those of metrics and status: users build on them.

import NBDProtocol

/// The commands that are counted: all but DISC, which has no reply.
package enum CountedCommand: Int, CaseIterable, Sendable {
  case read, write, trim, writeZeroes, flush, cache, blockStatus

  package init?(_ command: Command) {
    switch command {
    case .read: self = .read
    case .write: self = .write
    case .trim: self = .trim
    case .writeZeroes: self = .writeZeroes
    case .flush: self = .flush
    case .cache: self = .cache
    case .blockStatus: self = .blockStatus
    case .disconnect: return nil
    }
  }

  /// As metrics and status name it.
  package var label: String {
    switch self {
    case .read: "read"
    case .write: "write"
    case .trim: "trim"
    case .writeZeroes: "write_zeroes"
    case .flush: "flush"
    case .cache: "cache"
    case .blockStatus: "block_status"
    }
  }
}

/// One value for each counted command. For looking at; the data path counts in `BatchTally`.
package struct PerCommand<Value: Sendable & Equatable>: Sendable, Equatable {
  private var values: [Value]

  package init(repeating value: Value) { values = Array(repeating: value, count: CountedCommand.allCases.count) }

  package subscript(command: CountedCommand) -> Value {
    get { values[command.rawValue] }
    set { values[command.rawValue] = newValue }
  }
}

package struct CommandCounts: Sendable, Equatable {
  /// Answered, with success or an error.
  package var requests: UInt64 = 0
  /// Of these, answered with an error.
  package var errors: UInt64 = 0
  /// Length of those answered with success, bytes; 0 for FLUSH.
  package var bytes: UInt64 = 0

  package init(requests: UInt64 = 0, errors: UInt64 = 0, bytes: UInt64 = 0) {
    self.requests = requests
    self.errors = errors
    self.bytes = bytes
  }

  package static func += (a: inout CommandCounts, b: CommandCounts) {
    a.requests += b.requests
    a.errors += b.errors
    a.bytes += b.bytes
  }
}

extension PerCommand<CommandCounts> {
  package init() { self.init(repeating: CommandCounts()) }

  package static func += (a: inout Self, b: Self) {
    for command in CountedCommand.allCases { a[command] += b[command] }
  }

  package var total: CommandCounts {
    CountedCommand.allCases.reduce(into: CommandCounts()) { $0 += self[$1] }
  }
}
