// The end of a run of the target "server": everything goes on by itself until it is at rest, and then it is judged.

import NBDServerCore
import Oracle

extension FuzzWorld {
  /// Lets everything that can go on do so: a disk that works, clients that read, all bytes delivered.
  func settle() throws {
    for _ in 0..<20_000 {
      var moved = false
      for line in lines where !line.hasClosed {
        if line.isWatchedForWriting {
          try giveRoom(to: line, bytes: 1 << 20)
          moved = true
        }
        line.room = max(line.room, 1 << 20)
        if !line.wire.isEmpty, line.replies.life == .open, !line.replies.isPaused {
          try deliver(line, bytes: .max)
          moved = true
        }
      }
      if jobs.values.contains(where: { $0.state == .running }) {
        try workOn(0, blocks: FuzzWorld.blocks, failing: nil)
        moved = true
      }
      if jobs.values.contains(where: { $0.state == .syncing }) {
        try sync(fails: false)
        moved = true
      }
      if !moved { break }
    }
    try demand(jobs.isEmpty, "everything that was begun ends: \(jobs.count) requests do not")
    try demand(core.heldCount == 0 && core.waitingCount == 0, "no lock is left")
    for line in lines where !line.hasClosed {
      try demand(line.wire.isEmpty || line.replies.life != .open, "nobody is left paused who owes nothing")
      if line.replies.life == .open && line.reader != nil && !line.hasSentGarbage {
        try demand(line.unansweredCount == 0, "every request is answered")
        try demand(line.reader?.hasRest == false, "every reply is whole")
      }
      try endOfStream(line)
      try demand(line.hasClosed, "a connection that owes nothing closes")
    }
  }

  /// The disk as one more READ, after everything, and the whole history before the oracle.
  func judge() throws {
    var bytes = [UInt8](repeating: 0xdd, count: Int(FuzzWorld.sizeBytes))
    var span = bytes.mutableSpan
    var raw = span.mutableBytes
    try disk.read(into: &raw, at: 0)
    let (id, invoked, completed) = (nextID(), nextEvent(), nextEvent())
    history.operations.append(
      Operation(
        id: id, kind: .read, blocks: 0..<FuzzWorld.blocks, invoked: invoked, completed: completed,
        seen: BlockStamp.runs(in: bytes, first: 0)))
    let known = history.operations.filter { $0.blocks.upperBound <= FuzzWorld.blocks }
    if let violation = History(known).firstViolation() { throw Finding(description: violation.description) }
  }
}
