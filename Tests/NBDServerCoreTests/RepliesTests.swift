// What a connection owes: one sender, bytes in order, no lost wake-up, one close, nothing kept of the dead.

import BlockBackend
import NBDServerCore
import TestBackends
import Testing

private let pool = PiecePool()

private func outgoing(_ count: Int, charged: Int? = nil) -> Replies.Outgoing {
  var buffer = PieceBuffer(pool: pool, capacityBytes: count)
  buffer.append(countedBytes(count).rawBytes)
  return Replies.Outgoing(buffer, chargedBytes: charged ?? count)
}

extension Replies {
  /// As the sender: takes the next reply and throws it away.
  fileprivate mutating func takeNext() -> (sent: Int, rest: Int)? {
    switch nextToSend() {
    case .some(let next): (next.sentBytes, next.restBytes)
    case .none: nil
    }
  }
}

@Suite struct RepliesTests {
  @Test func whoCannotSendAppends() {
    var replies = Replies(limits: Limits())
    claim(replies.mayBeginSending())
    claim(!replies.mayBeginSending())
    let second = replies.append(outgoing(10))
    claim(second == (0, false))
    claim(replies.outgoingBytes == 10 + Limits.overheadBytes)
    let next = replies.takeNext()
    claim(next?.rest == 10)
    let last = replies.takeNext()
    claim(last == nil)
    claim(replies.mayBeginSending())
  }

  @Test func fullSocketIsLeftToTheWriteSource() {
    var replies = Replies(limits: Limits())
    claim(replies.mayBeginSending())
    claim(replies.putBack(outgoing(10)) == 0)
    claim(replies.becomesBlocked())
    claim(!replies.mayBeginSending())
    let appended = replies.append(outgoing(5))
    claim(appended == (0, false))
    claim(replies.becomesWritable())
    claim(!replies.becomesWritable())
    let first = replies.takeNext()
    claim(first?.rest == 10)
  }

  /// The rest of what was being sent comes before what was queued meanwhile.
  @Test func restGoesToTheFront() {
    var replies = Replies(limits: Limits())
    _ = replies.append(outgoing(10))
    guard var taken = replies.nextToSend() else { return claim(false) }
    _ = replies.append(outgoing(7))
    taken.sentBytes = 6
    claim(replies.putBack(taken) == 0)
    claim(replies.outgoingBytes == 11 + 2 * Limits.overheadBytes)
    let first = replies.takeNext()
    claim(first?.sent == 6)
    let second = replies.takeNext()
    claim(second?.rest == 7)
  }

  @Test func deathRefundsWhatIsQueuedAndWhatComes() {
    var replies = Replies(limits: Limits())
    _ = replies.mayBeginSending()
    _ = replies.append(outgoing(10, charged: 12))
    _ = replies.append(outgoing(10, charged: 13))
    let id = replies.begin()
    let death = replies.die("gone")
    claim(death?.refundBytes == 25)
    claim(death?.tokens.isEmpty == true)
    claim(replies.die("again") == nil)
    claim(replies.life == .dead("gone"))
    let late = replies.append(outgoing(10, charged: 14))
    claim(late == (14, false))
    claim(replies.putBack(outgoing(10, charged: 15)) == 15)
    claim(!replies.becomesBlocked())
    claim(!replies.mayClose())
    replies.end(id)
    claim(replies.mayClose())
    claim(!replies.mayClose())
  }

  @Test func roomMadeBeforeThePauseIsNotMissed() {
    var limits = Limits()
    limits.requestsInFlightMax = 2
    var replies = Replies(limits: limits)
    claim(replies.beginLease())
    let ids = [replies.begin(), replies.begin()]
    claim(replies.mustPause)
    for id in ids { replies.end(id) }
    claim(!replies.wake())
    claim(!replies.pause())
    // The wake-up was used up.
    claim(replies.pause())
    claim(replies.isPaused)
    claim(!replies.beginLease())
    claim(replies.wake())
    claim(replies.isLeased)
  }

  @Test func pausedConnectionIsWokenWhenHalfOfItsRequestsEnded() {
    var limits = Limits()
    limits.requestsInFlightMax = 4
    var replies = Replies(limits: limits)
    claim(replies.beginLease())
    let ids = (0..<4).map { _ in replies.begin() }
    claim(replies.pause())
    replies.end(ids[0])
    claim(!replies.wake())
    replies.end(ids[1])
    claim(replies.wake())
  }

  @Test func finishingConnectionAnswersEverythingFirst() {
    var replies = Replies(limits: Limits())
    claim(replies.beginLease())
    let id = replies.begin()
    replies.finish()
    claim(!replies.endLease())
    claim(!replies.mayClose())
    replies.end(id)
    let last = replies.append(outgoing(4))
    claim(last.mustSend)
    claim(!replies.mayClose())
    _ = replies.nextToSend()
    claim(!replies.mayClose())
    let none = replies.takeNext()
    claim(none == nil)
    claim(replies.mayClose())
    claim(replies.isClosing)
    claim(!replies.mayClose())
  }

  /// Threads take their steps in any order, the socket takes what it likes, the client dies, hangs up or goes on.
  @Test func randomOrderKeepsEveryPromise() {
    let seed = printedSeed()
    for run in 0..<200 {
      let life = FakeConnection(seed: seed &+ UInt64(run), context: "seed \(seed) run \(run)")
      life.run()
    }
  }
}
