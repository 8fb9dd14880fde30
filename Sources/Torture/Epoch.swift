// One epoch: what was in the region before, all requests of the time, and READs of the whole region at its end, when nothing
// was in flight any more. Epochs are judged one by one, so that a run of any length is judged in bounded memory.

import Oracle

package struct Epoch: Sendable {
  /// 1, 2, …
  package var number: Int
  package var before: Settled
  /// What `before` was read at: an event number smaller than that of every request of the epoch.
  package var begun: UInt64
  package var requests: [Request]
  /// Block status is judged in pieces of so many blocks.
  package var statusBlocks = 8
  /// The server was killed and started again.
  package var killed: UInt64?
  /// What `before` says had been synced when the epoch began.
  package var isBeforeDurable = true

  package init(number: Int, before: Settled, begun: UInt64, requests: [Request]) {
    self.number = number
    self.before = before
    self.begun = begun
    self.requests = requests
  }
}

/// What the oracle gets of an epoch.
struct EpochHistory {
  /// Content of `before` as WRITEs, then what the requests did.
  var operations: [Operation] = []
  /// What status replies said to read as zeroes, as READs that found zeroes.
  var holes: [Operation] = []
  /// READs that found what had been replaced before the epoch began.
  var stale: [(reader: Request, block: Int, id: UInt64)] = []
  /// The id of the WRITE that is behind an operation that stands for settled content.
  var settledIDs: [UInt64: UInt64] = [:]
  /// The request behind an operation that stands for a part of it.
  private var requestIDs: [UInt64: UInt64] = [:]

  /// Above all ids of requests, whose tag has 22 bits.
  private var lastOwnID: UInt64 = 1 << 62

  init(_ epoch: Epoch) {
    var ownIDs = [UInt64](repeating: 0, count: epoch.before.blockCount)
    for run in epoch.before.writtenRuns {
      let id = ownID()
      settledIDs[id] = run.id ?? 0
      for block in run.blocks { ownIDs[block] = id }
      operations.append(
        Operation(id: id, kind: .write, blocks: run.blocks, invoked: epoch.begun, completed: epoch.begun))
    }
    let sent = Set(epoch.requests.filter { $0.verb == .write }.map(\.id))
    for request in epoch.requests {
      if let kind = request.verb.kind {
        var operation = Operation(
          id: request.id, kind: kind, blocks: request.blocks, invoked: request.invoked, completed: request.completed,
          succeeded: request.errno == 0 && request.completed != nil)
        if kind == .read, operation.succeeded {
          guard let seen = translated(request, epoch.before, ownIDs, sent) else { continue }
          operation.seen = seen
        }
        // Nothing of a killed server happens later.
        if operation.completed == nil, let killed = epoch.killed { operation.completed = killed }
        operations.append(operation)
      } else if request.verb == .status, request.succeeded {
        for piece in pieces(of: request.holes, blocks: epoch.statusBlocks) {
          var hole = Operation(
            id: ownID(), kind: .read, blocks: piece, invoked: request.invoked, completed: request.completed)
          hole.seen = [Run(piece, .zero)]
          requestIDs[hole.id] = request.id
          holes.append(hole)
        }
      }
    }
  }

  private mutating func ownID() -> UInt64 {
    lastOwnID += 1
    return lastOwnID
  }

  /// The id of the request that an operation is, or is a part of.
  func requestID(of operation: Operation) -> UInt64 { requestIDs[operation.id] ?? operation.id }

  /// A READ as one for each of these runs of what it found.
  mutating func parts(of read: Operation, _ runs: [Run]) -> [Operation] {
    runs.map { run in
      var part = read
      part.id = ownID()
      part.blocks = run.blocks
      part.seen = [run]
      requestIDs[part.id] = requestID(of: read)
      return part
    }
  }

  /// What a READ found, with settled content under the ids it has here; nil and a note when it is older than that.
  private mutating func translated(
    _ request: Request, _ before: Settled, _ ownIDs: [UInt64], _ sent: Set<UInt64>
  ) -> [Run]? {
    var seen: [Run] = []
    for run in request.seen {
      guard case .written(let id) = run.content, !sent.contains(id) else {
        seen.append(run)
        continue
      }
      for block in run.blocks {
        guard before.id(of: block) == id else {
          stale.append((request, block, id))
          return nil
        }
        let content = Run.Content.written(by: ownIDs[block])
        if let last = seen.last, last.content == content, last.blocks.upperBound == block {
          seen[seen.count - 1].blocks = last.blocks.lowerBound..<block + 1
        } else {
          seen.append(Run(block..<block + 1, content))
        }
      }
    }
    return seen
  }

  /// Block by block: the server may have looked at each at a moment of its own.
  private func pieces(of ranges: [Range<Int>], blocks: Int) -> [Range<Int>] {
    ranges.flatMap { range in
      stride(from: range.lowerBound, to: range.upperBound, by: blocks).map { $0..<min($0 + blocks, range.upperBound) }
    }
  }
}
