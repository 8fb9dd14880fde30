// What the requests of a batch come to. One for each worker: plain integers, told to the connection once for each send, with one
// look at the clock when the bytes of a batch came and one when its replies have been sent.

import NBDProtocol
import NBDServerCore
import Syscalls

struct BatchAccount: ~Copyable {
  private var tally = BatchTally()
  private let latencies: LatencyShard
  private var receivedNanoseconds: Int64 = 0

  /// Whose requests these are, from the end of the handshake to the end of the lease.
  private var transmission: Transmission?

  init(latencies: LatencyShard) { self.latencies = latencies }

  /// The lease of a connection begins, or its handshake has ended.
  mutating func enter(_ transmission: Transmission?) {
    self.transmission = transmission
    if let statistics = transmission?.statistics, statistics.receivedNanoseconds == 0 {
      statistics.receivedNanoseconds = receivedNanoseconds
    }
  }

  // MARK: A batch

  /// The bytes of a batch have come; or requests that had come with an earlier one, and could not be taken then, get their turn.
  mutating func begin() {
    if let statistics = transmission?.statistics, statistics.hasLeftOver {
      receivedNanoseconds = statistics.receivedNanoseconds
      return
    }
    receivedNanoseconds = MonotonicClock.nanoseconds
    transmission?.statistics.receivedNanoseconds = receivedNanoseconds
  }

  /// Requests that have come were not taken.
  func leaveOver(_ leavesSome: Bool) { transmission?.statistics.hasLeftOver = leavesSome }

  @inline(__always)
  mutating func succeeded(_ command: CountedCommand, bytes: Int) { tally.succeeded(command, bytes: bytes) }

  mutating func succeeded(_ request: Request) {
    guard let command = CountedCommand(request.command) else { return }
    tally.succeeded(command, bytes: Int(request.length))
  }

  /// A READ of an earlier batch is answered in this one.
  mutating func succeededLate(_ command: CountedCommand, bytes: Int, nanoseconds: Int64) {
    tally.succeeded(command, bytes: bytes)
    tally.isTimedElsewhere(command)
    latencies.add(command, nanoseconds: nanoseconds)
  }

  mutating func failed(_ command: Command, _ error: NBDError) {
    guard let command = CountedCommand(command) else { return }
    tally.failed(command)
    transmission?.exportStatistics.note(RequestErrorKey(command: command, error: error))
  }

  mutating func refused(_ refusal: Refusal) {
    transmission?.exportStatistics.note(refusal.reason)
    if let command = refusal.command { failed(command, refusal.error) }
  }

  // MARK: Its end

  /// Before the replies can be seen, so that a client that has been answered finds itself counted.
  func publishCounts() {
    guard !tally.isEmpty, let statistics = transmission?.statistics else { return }
    tally.tell { command, counts in
      statistics.add(command, requests: counts.requests, errors: counts.errors, bytes: counts.bytes)
    }
  }

  /// The replies have been sent, or queued.
  mutating func publishLatencies() {
    guard !tally.isEmpty else { return }
    let nanoseconds = MonotonicClock.nanoseconds - receivedNanoseconds
    tally.tell { command, counts in
      let timed = counts.requests - counts.timedElsewhere
      if timed > 0 { latencies.add(command, nanoseconds: nanoseconds, times: timed) }
    }
    tally.removeAll()
  }

  /// The lease ends.
  mutating func leave() { transmission = nil }
}
