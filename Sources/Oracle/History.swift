// What a workload did and saw: the material that is judged.

import Synchronization

/// Counts the events of a history, so that "ended before that one began" is a comparison of two numbers.
///
/// Take a number *before* the first byte of a request is sent, and one *after* the last byte of its reply has arrived.
package final class EventCounter: Sendable {
  private let last = Atomic<UInt64>(0)

  package init() {}

  package func next() -> UInt64 { last.add(1, ordering: .sequentiallyConsistent).newValue }
}

/// One request: what it asked for, when, and what came of it.
package struct Operation: Sendable {
  package enum Kind: Sendable, CaseIterable {
    case read
    case write
    case trim
    case writeZeroes
  }

  /// Unique in the history and not zero; for a WRITE, the stamp in each of its blocks.
  package var id: UInt64
  package var kind: Kind
  /// In blocks of 512 bytes, half-open, not empty.
  package var blocks: Range<Int>
  /// Event number from before it was sent.
  package var invoked: UInt64
  /// Event number from after its reply, or nil: no reply was seen.
  package var completed: UInt64?
  /// False if the reply was an error. What failed may be applied in part.
  package var succeeded: Bool
  /// What a READ that succeeded found: all of its blocks, in order.
  package var seen: [Run] = []
  /// A change that was asked to be durable before its reply.
  package var isFUA = false

  package init(
    id: UInt64, kind: Kind, blocks: Range<Int>, invoked: UInt64, completed: UInt64?, succeeded: Bool = true,
    seen: [Run] = [], isFUA: Bool = false
  ) {
    self.id = id
    self.kind = kind
    self.blocks = blocks
    self.invoked = invoked
    self.completed = completed
    self.succeeded = succeeded
    self.seen = seen
    self.isFUA = isFUA
  }
}

/// Neighbouring blocks with the same content.
package struct Run: Sendable, Equatable {
  package enum Content: Sendable, Hashable {
    case zero
    /// Every byte of the block is as the WRITE of that id put it there.
    case written(by: UInt64)
    /// Half a block of one and half of another. Only what failed, or was not answered, may leave such a block.
    case broken
    /// The same stamp throughout, but not one for this place. Nothing may leave such a block.
    case misplaced
  }

  package var blocks: Range<Int>
  package var content: Content

  package init(_ blocks: Range<Int>, _ content: Content) {
    self.blocks = blocks
    self.content = content
  }
}

/// Why a history is impossible if requests are atomic.
package struct Violation: Error, CustomStringConvertible {
  /// One sentence.
  package var description: String
  /// The requests in question, the READ first.
  package var operations: [UInt64]
}

/// All requests of a run on a region that was zero at the start. Their order in the array does not matter.
package struct History: Sendable {
  package var operations: [Operation] = []

  package init(_ operations: [Operation] = []) { self.operations = operations }
}
