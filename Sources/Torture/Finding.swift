// What was found, and the few requests that prove it.

/// What is judged, from what the NBD specification promises to what it does not.
package enum Category: String, Sendable, CaseIterable {
  /// A block does not behave as if requests on it came one after the other.
  case linearizability
  /// Block status called acknowledged data a hole or zeroes.
  case status
  /// What was acknowledged and then covered by FLUSH or FUA is gone after the server was killed.
  case durability
  /// What was acknowledged, but covered by no sync, is gone after the server was killed. No promise of the protocol, but the
  /// page cache would have kept it.
  case lost
  /// A block under a TRIM held something else than it had held or zeroes, or changed again. The protocol leaves it open until
  /// the block is overwritten.
  case trimmed
  /// A READ found a part of a block as a change that was going on left it, and the rest as it was before. Disks do better; the
  /// protocol says nothing about requests that overlap.
  case torn
  /// A request took effect in parts. The protocol promises nothing here.
  case atomicity

  package var title: String {
    switch self {
    case .linearizability: "linearizability of each block"
    case .status: "block status never hides data"
    case .durability: "FLUSH and FUA survive a kill"
    case .lost: "acknowledged changes survive a kill"
    case .trimmed: "TRIM keeps a block or zeroes it"
    case .torn: "blocks are whole beside a change"
    case .atomicity: "requests are atomic as a whole"
    }
  }

  /// The protocol promises it: finding it broken is a violation in any case.
  package var isPromised: Bool {
    switch self {
    case .linearizability, .status, .durability: true
    case .lost, .trimmed, .torn, .atomicity: false
    }
  }
}

package struct Finding: Sendable {
  package var category: Category
  /// 1, 2, …; 0 when there were no epochs.
  package var epoch: Int
  /// One sentence.
  package var summary: String
  /// In the order in which they were sent.
  package var witness: [WitnessLine]

  package init(category: Category, epoch: Int, summary: String, witness: [WitnessLine]) {
    self.category = category
    self.epoch = epoch
    self.summary = summary
    self.witness = witness
  }
}

/// One request of a witness, as people read it.
package struct WitnessLine: Sendable, Equatable {
  /// Milliseconds since the start of the run; nil: before the epoch, or not answered.
  package var sent: Double?
  package var answered: Double?
  package var connection: Int?
  package var command: String
  /// Bytes from the start of the export, half-open.
  package var range: Range<UInt64>
  package var result: String

  package init(
    sent: Double?, answered: Double?, connection: Int?, command: String, range: Range<UInt64>, result: String
  ) {
    self.sent = sent
    self.answered = answered
    self.connection = connection
    self.command = command
    self.range = range
    self.result = result
  }
}
