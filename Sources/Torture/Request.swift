// What was asked of a server and what came of it: the material that an epoch is judged by.

import Oracle

/// What a request does, in the words of `--mix`.
package enum Verb: String, Sendable, CaseIterable {
  case read, write, trim, zero, status, flush

  /// What the oracle calls it; nil for what it does not know.
  var kind: Oracle.Operation.Kind? {
    switch self {
    case .read: .read
    case .write: .write
    case .trim: .trim
    case .zero: .writeZeroes
    case .status, .flush: nil
    }
  }

  package var changesData: Bool {
    switch self {
    case .write, .trim, .zero: true
    case .read, .status, .flush: false
    }
  }
}

/// One request, and its reply if there was one.
package struct Request: Sendable {
  /// Unique in the run and not zero; for a WRITE, the stamp in each of its blocks.
  package var id: UInt64
  package var verb: Verb
  /// In blocks of 512 bytes from the start of the region; empty for FLUSH.
  package var blocks: Range<Int>
  package var connection: Int
  package var fua = false
  package var noHole = false

  /// Event numbers (`EventCounter`) from before it was sent and after its reply; nil: no reply was seen.
  package var invoked: UInt64 = 0
  package var completed: UInt64?
  /// Nanoseconds since the start of the run.
  package var sentAt: Int64 = 0
  package var answeredAt: Int64 = 0
  /// 0 when it succeeded.
  package var errno: Int32 = 0
  /// Sent after the server had been killed and started again.
  package var isAfterKill = false

  /// What a READ that succeeded found: all of its blocks, in order.
  package var seen: [Run] = []
  /// What a status reply said to read as zeroes.
  package var holes: [Range<Int>] = []

  package init(id: UInt64, verb: Verb, blocks: Range<Int>, connection: Int) {
    self.id = id
    self.verb = verb
    self.blocks = blocks
    self.connection = connection
  }

  package var succeeded: Bool { completed != nil && errno == 0 }
}
