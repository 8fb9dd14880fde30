// What one connection has been answered, and what its lease holder is at. Its own atomics: nobody else writes them in the fast
// path, so a line of memory stays with the processor that serves the connection.

import NBDProtocol
import NBDServerCore
import Synchronization

final class ConnectionStatistics: Sendable {
  private let requests = InlineArray<7, Atomic<Int>> { _ in Atomic(0) }
  private let errors = InlineArray<7, Atomic<Int>> { _ in Atomic(0) }
  private let bytes = InlineArray<7, Atomic<Int>> { _ in Atomic(0) }

  /// When the bytes came that the lease holder looks at, nanoseconds of the monotonic clock. Written and read by it alone.
  private let received = Atomic<Int64>(0)
  private let leftOver = Atomic<Bool>(false)

  /// What the lease holder does that might hang.
  let inline = OperationMark()
  /// One of the reads that it has left to the kernel.
  let ring = OperationMark()

  init() {}

  var receivedNanoseconds: Int64 {
    get { received.load(ordering: .relaxed) }
    set { received.store(newValue, ordering: .relaxed) }
  }

  /// A request that came then has not been taken. As above; it goes with the connection from lease to lease.
  var hasLeftOver: Bool {
    get { leftOver.load(ordering: .relaxed) }
    set { leftOver.store(newValue, ordering: .relaxed) }
  }

  func add(_ command: CountedCommand, requests count: Int, errors failed: Int = 0, bytes moved: Int) {
    let index = command.rawValue
    requests[index].add(count, ordering: .relaxed)
    if failed > 0 { errors[index].add(failed, ordering: .relaxed) }
    if moved > 0 { bytes[index].add(moved, ordering: .relaxed) }
  }

  var counts: PerCommand<CommandCounts> {
    var counts = PerCommand<CommandCounts>()
    for command in CountedCommand.allCases {
      let index = command.rawValue
      // Errors first: a request is counted before its error, so there are never more errors than requests.
      let failed = errors[index].load(ordering: .acquiring)
      counts[command] = CommandCounts(
        requests: UInt64(requests[index].load(ordering: .relaxed)), errors: UInt64(failed),
        bytes: UInt64(bytes[index].load(ordering: .relaxed)))
    }
    return counts
  }
}

/// What one thread is at, for others to look at without keeping it: a version that is odd while the rest is written.
struct OperationMark: ~Copyable {
  private let version = Atomic<UInt>(0)
  /// Nanoseconds of the monotonic clock; 0: nothing.
  private let began = Atomic<Int64>(0)
  private let command = Atomic<UInt>(0)
  private let offset = Atomic<UInt64>(0)
  private let length = Atomic<UInt>(0)

  /// By the one thread that writes it.
  func set(_ request: Request, beganNanoseconds: Int64) {
    let next = version.load(ordering: .relaxed) &+ 2
    version.store(next &- 1, ordering: .relaxed)
    // Releasing: the odd version is seen before any of these.
    began.store(beganNanoseconds, ordering: .releasing)
    command.store(UInt(request.command.rawValue), ordering: .releasing)
    offset.store(request.offset, ordering: .releasing)
    length.store(UInt(request.length), ordering: .releasing)
    version.store(next, ordering: .releasing)
  }

  func clear() {
    if began.load(ordering: .relaxed) != 0 { began.store(0, ordering: .releasing) }
  }

  var isSet: Bool { began.load(ordering: .relaxed) != 0 }

  /// Any thread. Nil: nothing, or it changes this moment and so does not hang.
  func read() -> (version: UInt, operation: Replies.Operation)? {
    let before = version.load(ordering: .acquiring)
    let began = began.load(ordering: .acquiring)
    let command = command.load(ordering: .acquiring)
    let offset = offset.load(ordering: .acquiring)
    let length = length.load(ordering: .acquiring)
    guard before.isMultiple(of: 2), version.load(ordering: .relaxed) == before, began != 0,
      let command = UInt16(exactly: command).flatMap(Command.init(rawValue:)), let length = UInt32(exactly: length)
    else { return nil }
    let request = Request(command: command, flags: [], cookie: 0, offset: offset, length: length)
    return (before, Replies.Operation(request, beganNanoseconds: began))
  }
}
