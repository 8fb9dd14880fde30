// A connection that is played: for tests of `Replies` in any order of events.

import BlockBackend
import NBDServerCore
import TestBackends
import Testing

private let pool = PiecePool()

/// `Replies` with a socket, a lease holder and a slow lane that are played. Each step is one that a thread makes while
/// it holds the mutex.
final class FakeConnection {
  private var replies: Replies
  private var random: SplitMix
  private let context: String

  private var expected: [UInt8] = []
  private var sent: [UInt8] = []
  private var charged = 0
  private var refunded = 0
  private var closes = 0

  /// What the socket still takes.
  private var room = 0
  private var isWatchedForReading = true
  private var isWatchedForWriting = false

  /// The one sender, if any, and what it holds.
  private enum Sender { case none, bytes, queue, blocking }
  private var sender = Sender.none
  private var rest: [UInt8] = []
  private var taken: Replies.Outgoing?

  private enum Worker { case none, serving, wantsToPause }
  private var worker = Worker.none
  private var workerIsSender = false
  private var inFlight: [UInt64] = []
  private var nextByte: UInt64 = 0
  /// Paused without cause of its own: the budget wakes it when others give memory back.
  private var waitsForMemory = false

  init(seed: UInt64, context: String) {
    var limits = Limits()
    limits.requestsInFlightMax = 6
    limits.sendQueuePauseBytes = 200
    limits.sendQueueResumeBytes = 80
    replies = Replies(limits: limits)
    random = SplitMix(seed: seed)
    self.context = context
  }

  private func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }

  func run() {
    let (dies, finishes) = (chance(30), chance(50))
    for _ in 0..<400 {
      step()
      if dies && chance(1) { die() }
    }
    settle()
    claim(!replies.isPaused || replies.life != .open, "nobody is left paused who owes nothing, \(context)")
    if replies.life == .open {
      claim(sent == expected, "everything went out, \(context)")
      claim(isWatchedForReading, "further bytes will be seen, \(context)")
      if finishes { replies.finish() } else { die() }
      closeIfDone()
    }
    settle()
    claim(closes == 1, "closes once, \(context)")
    claim(sent == Array(expected.prefix(sent.count)), "in order, \(context)")
    claim(charged == refunded, "all memory is given back, \(context)")
  }

  private var isAtRest: Bool { inFlight.isEmpty && sender == .none && worker == .none }

  /// No new requests; everything that goes on by itself does.
  private func settle() {
    for _ in 0..<10_000 where !isAtRest || isWatchedForWriting || waitsForMemory {
      room += 50
      if waitsForMemory { giveMemory() }
      if sender != .none { stepSender() }
      if isWatchedForWriting { stepSocket() }
      if !inFlight.isEmpty { complete() }
      if worker != .none && !workerIsSender { endLease() }
    }
    claim(isAtRest, "comes to rest, \(context)")
  }

  private func step() {
    switch Int.random(in: 0..<10, using: &random) {
    case 0...2: if sender != .none { stepSender() }
    case 3: if !inFlight.isEmpty { complete() }
    case 4: stepSocket()
    case 5: if isWatchedForReading { becomeReadable() } else if waitsForMemory { giveMemory() }
    default: if worker != .none && !workerIsSender { stepWorker() }
    }
  }

  // MARK: The lease holder

  private func becomeReadable() {
    isWatchedForReading = false
    if replies.beginLease() { lease() }
  }

  private func lease() {
    claim(worker == .none, "one worker at a time, \(context)")
    worker = .serving
  }

  private func giveMemory() {
    waitsForMemory = false
    wake()
  }

  private func stepWorker() {
    if !replies.life.isAlive { return endLease() }
    switch worker {
    case .none: return
    case .wantsToPause:
      worker = .serving
      if replies.pause() {
        worker = .none
        closeIfDone()
      }
    case .serving:
      if replies.mustPause {
        worker = .wantsToPause
      } else if chance(5) {
        waitsForMemory = true
        worker = .wantsToPause
      } else if chance(50) {
        inFlight.append(replies.begin())
        charge(20)
      } else if chance(70) {
        sendBatch(Int.random(in: 1...60, using: &random))
      } else if chance(50) {
        endLease()
      } else if chance(1) {
        replies.finish()
        endLease()
      }
    }
  }

  private func endLease() {
    worker = .none
    if replies.endLease() { isWatchedForReading = true }
    closeIfDone()
  }

  private func bytes(_ count: Int) -> [UInt8] {
    nextByte += 1
    return countedBytes(count, from: nextByte)
  }

  private func sendBatch(_ count: Int) {
    let batch = bytes(count)
    if replies.mayBeginSending() {
      begin(.bytes)
      workerIsSender = true
      expected += batch
      rest = batch
    } else {
      workerIsSender = append(batch, charged: count, isCharged: false)
    }
  }

  // MARK: The slow lane

  private func complete() {
    let id = inFlight.remove(at: Int.random(in: 0..<inFlight.count, using: &random))
    replies.end(id)
    if chance(10) {
      refunded += 20
      wake()
    } else if !append(bytes(Int.random(in: 1...60, using: &random)), charged: 20, isCharged: true) {
      wake()
    }
    closeIfDone()
  }

  /// - Returns: whether the caller is the sender now.
  private func append(_ bytes: [UInt8], charged: Int, isCharged: Bool) -> Bool {
    if !isCharged { charge(charged) }
    var buffer = PieceBuffer(pool: pool, capacityBytes: bytes.count)
    buffer.append(bytes.rawBytes)
    if replies.life.isAlive { expected += bytes }
    let (refund, mustSend) = replies.append(Replies.Outgoing(buffer, chargedBytes: charged))
    refunded += refund
    if mustSend { begin(.queue) }
    return mustSend
  }

  // MARK: The sender

  private func begin(_ sender: Sender) {
    claim(self.sender == .none, "one sender at a time, \(context)")
    self.sender = sender
    workerIsSender = false
  }

  private func stepSender() {
    switch sender {
    case .none: return
    case .bytes:
      let count = min(room, rest.count)
      sent += rest.prefix(replies.life.isAlive ? count : 0)
      rest.removeFirst(count)
      room -= count
      if rest.isEmpty || !replies.life.isAlive {
        rest = []
        sender = .queue
        return
      }
      charge(rest.count)
      var buffer = PieceBuffer(pool: pool, capacityBytes: rest.count)
      buffer.append(rest.rawBytes)
      refunded += replies.putBack(Replies.Outgoing(buffer, chargedBytes: rest.count))
      sender = .blocking
    case .queue: stepQueue()
    case .blocking:
      endSending()
      if replies.becomesBlocked() { isWatchedForWriting = true } else { closeIfDone() }
    }
  }

  private func stepQueue() {
    guard var outgoing = taken.take() else {
      taken = replies.nextToSend()
      if taken == nil {
        endSending()
        wake()
        closeIfDone()
      }
      return
    }
    let count = min(room, outgoing.restBytes)
    if replies.life.isAlive { sent += outgoing.buffer.array()[outgoing.sentBytes...].prefix(count) }
    outgoing.sentBytes += count
    room -= count
    if outgoing.restBytes == 0 || !replies.life.isAlive {
      refunded += outgoing.chargedBytes
    } else {
      refunded += replies.putBack(outgoing)
      sender = .blocking
    }
  }

  private func endSending() {
    sender = .none
    workerIsSender = false
  }

  // MARK: The socket

  private func stepSocket() {
    room = min(room + Int.random(in: 0...80, using: &random), 100)
    guard room > 0, isWatchedForWriting else { return }
    isWatchedForWriting = false
    if replies.becomesWritable() { begin(.queue) }
  }

  private func charge(_ bytes: Int) { charged += bytes }

  private func wake() { if replies.wake() { lease() } }

  private func die() {
    guard let death = replies.die("the test says so") else { return }
    refunded += death.refundBytes
    closeIfDone()
  }

  private func closeIfDone() {
    guard replies.mayClose() else { return }
    closes += 1
    claim(isAtRest, "owes nothing when it closes, \(context)")
  }
}
