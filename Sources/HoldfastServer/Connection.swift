// One client: who serves it, what it is owed, and when its descriptor is closed.
//
//     idle ──readable──▶ leased ──quiet──▶ idle          finishing: DISC, EOF      ┐ closes when nothing is leased,
//                          │ ▲                           dead: error, violation    ┘ sent, or in flight
//                          ▼ │
//                         paused (owes too much, or waits for memory)

import BlockBackend
import EventLoops
import Locking
import Logging
import NBDProtocol
import NBDServerCore
import Synchronization
import Syscalls
import SystemPackage

/// A connection belongs to a generation of its own: a descriptor number may be used again, a connection is not (I6).
final class Connection: Sendable {
  let id: ConnectionID
  let server: Server
  let channel: Channel
  let peer: PeerAddress

  let rest: Locked<Rest>

  struct Rest: ~Copyable {
    /// The input half; here while nobody serves the connection, else with the lease holder.
    var receiver: Receiver?
    /// Until the handshake is over.
    var offer: Offer?
    /// Set when the handshake is over, nil again when the connection is closed.
    var transmission: Transmission?
  }

  /// The output half.
  let replies: Locked<Replies>

  /// When it made progress last: `limits.stallBytes` were moved since, or something was finished. Milliseconds of the
  /// monotonic clock.
  private let progressMilliseconds: Atomic<Int64>

  /// Bytes moved since.
  private let movedBytes = Atomic<Int>(0)

  /// When it was accepted, milliseconds of the monotonic clock.
  let acceptedMilliseconds: Int64

  /// Batches of requests since it was quiet for as long as a lease waits.
  private let warmth = Atomic<Int>(0)

  /// It has not sent a request: whoever is there deals with it, for nothing of that waits for a disk.
  private let newcomer = Atomic<Bool>(true)

  let handshakeIsOver = Atomic<Bool>(false)
  /// Why it failed has been counted, or it ended well.
  let handshakeIsCounted = Atomic<Bool>(false)
  /// What it was refused last.
  let refusal = Atomic<Int>(0)
  private let alive = Atomic<Bool>(true)
  private let full = Atomic<Bool>(false)

  /// The lease holder found the socket full and goes on sending when there is room. Only the lease holder looks at it.
  let leaseHolderAwaitsRoom = Atomic<Bool>(false)

  /// The lease holder has become the sender by answering a request that it ran, and has not sent yet.
  let leaseHolderOwesDrain = Atomic<Bool>(false)

  /// READs may be sent from the file: a Unix socket (on TCP a copy is quicker), made non-blocking, and an image that can be
  /// lent. Set when the handshake is over.
  let filesMaySend = Atomic<Bool>(false)

  var sendsFiles: Bool { filesMaySend.load(ordering: .relaxed) }

  init(id: ConnectionID, server: Server, socket: consuming OwnedDescriptor, peer: PeerAddress) {
    self.id = id
    self.server = server
    self.peer = peer
    channel = Channel(socket, loop: server.loop)
    rest = Locked(Rest(receiver: Receiver(limits: server.limits, pool: server.pool, guards: server.guards)))
    replies = Locked(Replies(limits: server.limits))
    acceptedMilliseconds = server.nowMilliseconds()
    progressMilliseconds = Atomic(acceptedMilliseconds)
  }

  var pool: PiecePool { server.pool }

  /// False once it is dead: what has not started is not worth starting.
  var isAlive: Bool { alive.load(ordering: .relaxed) }

  var isNegotiating: Bool { !handshakeIsOver.load(ordering: .relaxed) }

  var transmission: Transmission? { rest.withLock { $0.transmission } }

  /// Open as long as the connection is leased, sending, or not closing.
  var descriptor: Int32 { channel.descriptor }

  // MARK: Being served

  /// Greets, and hands the connection to a worker: a client speaks as soon as it has been greeted. Where connections are
  /// accepted; once.
  func start() {
    channel.setOwner(self)
    guard replies.withLock({ $0.mayBeginSending() }) else { return }
    let greeting = Handshake.greeting
    send(greeting.rawBytes, as: .other)
    // Who attends sees the answer as soon as anybody.
    if server.isAttended { channel.awaitReadable() } else { channelIsReadable() }
  }

  /// Room was made: a request ended, bytes went out, or memory was given back.
  func wake() {
    guard replies.withLock({ $0.wake() }) else { return }
    noteProgress()
    server.workers.submit(.serve(self))
  }

  /// For the lease holder.
  func takeReceiver() -> Receiver {
    guard let receiver = rest.withLock({ exchange(&$0.receiver, with: nil) }) else {
      preconditionFailure("one worker at a time serves a connection")
    }
    return receiver
  }

  /// How a lease ends.
  enum LeaseEnd {
    /// Nothing more to read now.
    case quiet
    /// Others wait for a worker: back into the queue, still leased.
    case othersWait
    /// The next request cannot be taken.
    case pause
    /// No further request is read.
    case finish
  }

  /// Ends a lease.
  /// - Returns: false when a pause became unnecessary: the lease goes on.
  func endLease(_ receiver: consuming Receiver, _ end: LeaseEnd) -> Bool {
    leaveRoomToSource()
    if case .finish = end {
      dropPayload(of: &receiver)
    }
    // A closure cannot consume what it captured: the receiver changes places with the nil that is there.
    var slot: Receiver? = consume receiver
    rest.withLock { swap(&$0.receiver, &slot) }
    switch end {
    case .quiet:
      if replies.withLock({ $0.endLease() }) { channel.awaitReadable() }
    case .othersWait:
      server.workers.submit(.serve(self))
      return true
    case .pause:
      guard replies.withLock({ $0.pause() }) else { return false }
      // It is not read now: nothing else would tell that the client is gone.
      channel.awaitHangUp()
    case .finish:
      replies.withLock { replies in
        replies.finish()
        _ = replies.endLease()
      }
    }
    closeIfDone()
    return true
  }

  private func dropPayload(of receiver: inout Receiver) {
    guard receiver.hasPayload else { return }
    let bytes = receiver.takePayload().capacityBytes
    server.payloadEnded(of: self)
    release(bytes)
  }

  // MARK: Whether to wait

  /// A worker has taken the connection.
  func beginLease() {
    if stalledMilliseconds(now: server.nowMilliseconds()) > Int64(Limits.leaseQuietMilliseconds) {
      warmth.store(0, ordering: .relaxed)
    }
  }

  /// After each batch: whether the worker may wait for the next. A connection that has begun to send requests has to send a
  /// few before it is worth a sleeping thread: else a thousand that ask once would keep all workers there are, with their
  /// buffers and stacks.
  func mayWait(_ isTransmitting: Bool) -> Bool {
    guard isTransmitting else { return true }
    return warmth.add(1, ordering: .relaxed).newValue >= Connection.batchesUntilWarm
  }

  private static let batchesUntilWarm = 4

  // MARK: Newcomers

  var isNewcomer: Bool { newcomer.load(ordering: .relaxed) }

  func noteRequest() {
    if isNewcomer { newcomer.store(false, ordering: .relaxed) }
  }

  // MARK: Requests off the fast path

  /// A request leaves the worker.
  func begin(of export: ServedExport, _ operation: Replies.Operation? = nil) -> UInt64 {
    let exportIsFull = export.began()
    return replies.withLock { replies in
      let id = replies.begin(operation)
      let isFull = replies.inFlightCount >= server.limits.requestsInFlightMax
      full.store(isFull || exportIsFull, ordering: .relaxed)
      return id
    }
  }

  /// As many requests are in flight as one connection, or its export, may have: no further one is taken. A hint for the lease
  /// holder; the pause that follows looks again.
  var isFull: Bool { full.load(ordering: .relaxed) }

  func setToken(_ token: LockToken, of id: UInt64) { replies.withLock { $0.setToken(token, of: id) } }

  /// It ends with a reply.
  func end(
    _ id: UInt64, of export: ServedExport, reply: consuming Replies.Outgoing, as sender: Sender = .other
  ) {
    let outgoing = Handoff(reply)
    let (refund, mustSend) = replies.withLock { replies in
      replies.end(id)
      full.store(false, ordering: .relaxed)
      return replies.append(outgoing.take())
    }
    export.ended()
    release(refund)
    switch sender {
    // Not here: the request is still counted as one that makes short calls on the image.
    case .leaseHolder: if mustSend { leaseHolderOwesDrain.store(true, ordering: .relaxed) }
    case .other: if mustSend { drain(as: sender) }
    }
    wake()
    closeIfDone()
  }

  /// It ends without one.
  func end(_ id: UInt64, of export: ServedExport, chargedBytes: Int) {
    replies.withLock { replies in
      replies.end(id)
      full.store(false, ordering: .relaxed)
    }
    export.ended()
    release(chargedBytes)
    wake()
    closeIfDone()
  }

  /// The connection owes so much that no further request may be taken.
  var mustPause: Bool { replies.withLock { $0.mustPause } }

  /// Gives memory back and wakes whom it lets go on.
  func release(_ bytes: Int) {
    guard bytes > 0 else { return }
    server.release(bytes, of: self)
  }

  // MARK: The end

  /// The connection is dead: nothing is answered any more, but what was admitted keeps its locks until it really ends.
  func die(_ reason: String) {
    let death = replies.withLock { replies -> (refundBytes: Int, tokens: [LockToken])? in
      guard let death = replies.die(reason) else { return nil }
      // Wakes a worker that waits for bytes. Under the mutex, because the descriptor is closed once `isClosing` is true.
      if !replies.isClosing { Sockets.shutdown(descriptor, .both) }
      return death
    }
    guard let death else { return }
    alive.store(false, ordering: .relaxed)
    log(.info, "disconnected: \(reason)")
    release(death.refundBytes)
    transmission?.image.cancelWaiting(death.tokens)
    closeIfDone()
  }

  /// Closes the descriptor when nothing is left to do. Any thread, after every change that may be the last.
  func closeIfDone() {
    guard replies.withLock({ $0.mayClose() }) else { return }
    // A closure cannot hand out two owned values: they change places with the nothing that is here.
    var end = Rest(receiver: nil)
    rest.withLock { swap(&$0, &end) }
    if var receiver = exchange(&end.receiver, with: nil) {
      server.unpark(receiver.parkedBytes, of: self)
      dropPayload(of: &receiver)
    }
    drainInput()
    if let transmission = end.transmission {
      transmission.end()
      logSummary(transmission)
    } else {
      note(server.isShuttingDown ? .shutdown : .disconnected)
      // Who died has been told of with the reason.
      if isAlive { log(.info, "disconnected") }
    }
    // A thread that has just ended its lease may still ask the channel for something, in vain.
    channel.close()
    server.forget(self)
    // Last of all: with it the export may go, and its image.
    if let served = end.transmission?.served, served.leave(self) { server.bury(served) }
  }

  /// Closing a socket with unread input resets it, and the reset may overtake the last replies: says that nothing more comes
  /// and throws away what is there.
  private func drainInput() {
    // Nearly always there is nothing.
    var few = IOBuffer(count: 64)
    var room = few.mutableBytes
    guard let count = try? Sockets.recv(descriptor, into: &room, flags: .dontWait), count > 0 else { return }
    Sockets.shutdown(descriptor, .writing)
    var scratch = IOBuffer(count: 64 * 1024)
    for _ in 0..<Connection.drainReadsMax {
      var room = scratch.mutableBytes
      guard let count = try? Sockets.recv(descriptor, into: &room, flags: .dontWait), count > 0 else { return }
    }
  }

  /// A client that goes on sending is not waited for.
  private static let drainReadsMax = 16

  /// Nobody serves it, and nothing that was admitted is under way.
  var isAtRest: Bool { replies.withLock { !$0.isLeased && $0.inFlightCount == 0 } }

  /// For the server, when it or the export goes: closes a connection that owes nothing.
  func closeIfQuiet() {
    let isQuiet = replies.withLock { replies in
      guard replies.isQuiet else { return false }
      replies.finish()
      return true
    }
    if isQuiet { closeIfDone() }
  }

  /// Bytes came or went.
  func noteProgress(_ bytes: Int) {
    if movedBytes.add(bytes, ordering: .relaxed).newValue >= server.limits.stallBytes { noteProgress() }
  }

  /// Something was finished, or it was we who had kept the connection waiting.
  func noteProgress() {
    movedBytes.store(0, ordering: .relaxed)
    progressMilliseconds.store(server.nowMilliseconds(), ordering: .relaxed)
  }

  /// Milliseconds since progress.
  func stalledMilliseconds(now: Int64) -> Int64 { now - progressMilliseconds.load(ordering: .relaxed) }

  /// It holds memory that only its client can free: replies that are not read, or a payload that does not come, unless it is we
  /// who do not take it.
  var holdsMemoryForItsClient: Bool {
    let isPaused = transmission?.served.isPaused ?? false
    let (owes, inFlight) = replies.withLock { ($0.outgoingBytes > 0, $0.inFlightCount) }
    return owes || (inFlight == 0 && !isPaused)
  }
}
