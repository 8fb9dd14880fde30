// What lies under a TRIM. The protocol says nothing about the contents of a trimmed block until it is overwritten: not that it
// reads as zeroes, nor that it reads twice the same. Nobody is accused of a promise there.

import Oracle

/// The READs of one block that the protocol says something about.
struct Trims {
  /// Overwriting requests in the order in which they ended: when they ended, and when the latest of them so far was sent.
  private var overwritten: [(ended: UInt64, sent: UInt64)] = []
  /// TRIMs in the order in which they were sent: when they were sent, and when the last of them so far ended.
  private var trimmed: [(sent: UInt64, ended: UInt64)] = []

  /// - Parameters:
  ///   - operations: all on the same block.
  ///   - trimmedBefore: an event at which the block was already under a TRIM.
  init(_ operations: [Operation], trimmedBefore: UInt64?) {
    if let trimmedBefore { trimmed.append((trimmedBefore, trimmedBefore)) }
    for operation in operations {
      let ended = operation.completed ?? .max
      switch operation.kind {
      case .read: break
      case .trim: trimmed.append((operation.invoked, ended))
      case .write, .writeZeroes: if operation.succeeded, ended < .max { overwritten.append((ended, operation.invoked)) }
      }
    }
    overwritten.sort { $0.ended < $1.ended }
    trimmed.sort { $0.sent < $1.sent }
    for index in overwritten.indices.dropFirst() {
      overwritten[index].sent = max(overwritten[index].sent, overwritten[index - 1].sent)
    }
    for index in trimmed.indices.dropFirst() {
      trimmed[index].ended = max(trimmed[index].ended, trimmed[index - 1].ended)
    }
  }

  /// No TRIM may have come after the last request that had overwritten the block for certain.
  func leavePromised(_ read: Operation) -> Bool {
    let trims = firstIndex(in: trimmed) { $0.sent >= read.completed ?? .max }
    guard trims > 0 else { return true }
    let changes = firstIndex(in: overwritten) { $0.ended >= read.invoked }
    return changes > 0 && overwritten[changes - 1].sent > trimmed[trims - 1].ended
  }

  private func firstIndex<Element>(in sorted: [Element], where isBehind: (Element) -> Bool) -> Int {
    var low = 0
    var high = sorted.count
    while low < high {
      let middle = (low + high) / 2
      if isBehind(sorted[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

extension Epoch {
  /// For each block, whether it is under a TRIM when the epoch has ended. After a kill nobody knows what was overwritten.
  package var trimmedAtEnd: [Bool] {
    var trimEnded = [UInt64](repeating: 0, count: before.blockCount)
    var overwriteSent = trimEnded
    for request in requests {
      switch request.verb {
      case .trim: for block in request.blocks { trimEnded[block] = max(trimEnded[block], request.completed ?? .max) }
      case .write, .zero:
        guard request.succeeded, killed == nil else { continue }
        for block in request.blocks { overwriteSent[block] = max(overwriteSent[block], request.invoked) }
      case .read, .status, .flush: break
      }
    }
    return trimEnded.indices.map { block in
      (trimEnded[block] > 0 || before.isTrimmed(block)) && overwriteSent[block] <= max(trimEnded[block], begun)
    }
  }
}
