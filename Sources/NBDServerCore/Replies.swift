// What a connection still owes its client: requests that have not been answered, bytes that the socket did not take, and
// when the descriptor may be closed. Pure; one mutex around it, because the lease holder and the slow lane both reply.

import BlockBackend
import DequeModule
import NBDProtocol
import RangeLocks

/// The output half of a connection.
package struct Replies: ~Copyable, Sendable {
  package enum Life: Equatable, Sendable {
    case open
    /// DISC, EOF or shutdown: everything received is finished and answered, then the connection closes.
    case finishing
    /// Nothing can be answered any more. The reason is for the log.
    case dead(String)
  }

  /// One complete reply, or several, that did not go out at once.
  package struct Outgoing: ~Copyable, Sendable {
    package var buffer: PieceBuffer
    package var sentBytes = 0
    /// What the budget was charged for it, bytes.
    package let chargedBytes: Int

    /// Follows the buffer.
    package var fileTail: FileTail?

    package init(_ buffer: consuming PieceBuffer, fileTail: FileTail? = nil, chargedBytes: Int) {
      self.buffer = buffer
      self.fileTail = fileTail
      self.chargedBytes = chargedBytes
    }

    package var restBytes: Int { buffer.count - sentBytes }

    /// What it costs in a queue: a reply of 16 bytes costs much more than that.
    fileprivate var queuedBytes: Int {
      restBytes + Limits.overheadBytes + (fileTail == nil ? 0 : Limits.queuedTailBytes)
    }
  }

  /// A request off the fast path.
  private struct InFlight {
    var token: RangeLockTable.Token?
    let operation: Operation?
  }

  /// What such a request does, for whoever looks for slow ones.
  package struct Operation: Sendable {
    package let request: Request
    /// When its bytes were received, nanoseconds of the monotonic clock.
    package let beganNanoseconds: Int64

    package init(_ request: Request, beganNanoseconds: Int64) {
      self.request = request
      self.beganNanoseconds = beganNanoseconds
    }
  }

  /// The data of a READ as it is in its file: sent without a copy, while it is lent and so cannot change (I4).
  package struct FileTail: Sendable {
    package let file: any LentFile
    /// What has not been sent.
    package var range: Range<UInt64>

    package init(file: any LentFile, range: Range<UInt64>) {
      self.file = file
      self.range = range
    }
  }

  package private(set) var life = Life.open

  /// A worker serves the connection.
  package private(set) var isLeased = false

  /// The lease holder has stopped reading; whoever removes the cause wakes the connection.
  package private(set) var isPaused = false

  /// Room was made while the lease holder was about to pause.
  private var wakeIsPending = false

  /// Somebody sends. Others only append.
  private var isSending = false

  /// The socket is full: the write source sends next.
  private var awaitsWritable = false

  private var isClosed = false
  private var outgoing = UniqueDeque<Outgoing>()
  package private(set) var outgoingBytes = 0
  private var inFlight: [UInt64: InFlight] = [:]
  private var nextID: UInt64 = 0
  private let limits: Limits

  package init(limits: Limits) { self.limits = limits }

  // MARK: Requests off the fast path

  /// A request leaves the worker. Several that are looked after elsewhere may count as one, without an operation.
  /// - Returns: its number on this connection.
  package mutating func begin(_ operation: Operation? = nil) -> UInt64 {
    defer { nextID += 1 }
    inFlight[nextID] = InFlight(operation: operation)
    return nextID
  }

  /// The request holds, or waits for, this lock.
  package mutating func setToken(_ token: RangeLockTable.Token, of id: UInt64) {
    precondition(inFlight[id] != nil, "only a request in flight has a lock")
    inFlight[id]?.token = token
  }

  /// The request is answered, or was cancelled.
  package mutating func end(_ id: UInt64) {
    precondition(inFlight.removeValue(forKey: id) != nil, "a request ends once")
  }

  package var inFlightCount: Int { inFlight.count }

  package func isInFlight(_ id: UInt64) -> Bool { inFlight[id] != nil }

  /// Those in flight that began before `nanoseconds`, in no order; at most `countMax`.
  package func operations(
    before nanoseconds: Int64, countMax: Int
  ) -> [(id: UInt64, operation: Operation, token: RangeLockTable.Token?)] {
    var found: [(UInt64, Operation, RangeLockTable.Token?)] = []
    for (id, entry) in inFlight where found.count < countMax {
      guard let operation = entry.operation, operation.beganNanoseconds < nanoseconds else { continue }
      found.append((id, operation, entry.token))
    }
    return found
  }

  // MARK: Sending

  /// The caller wants to send at once.
  /// - Returns: true when it may, and then has to call `sent`; false when it has to `append`.
  package mutating func mayBeginSending() -> Bool {
    guard life.isAlive, !isSending, !awaitsWritable, outgoing.isEmpty else { return false }
    isSending = true
    return true
  }

  /// Queues a reply behind the others.
  /// - Returns: what to give back to the budget at once because nobody will read it; and whether the caller has to send
  ///   (`nextToSend` until nil).
  package mutating func append(_ reply: consuming Outgoing) -> (refundBytes: Int, mustSend: Bool) {
    guard life.isAlive else { return (reply.chargedBytes, false) }
    outgoingBytes += reply.queuedBytes
    outgoing.append(reply)
    guard !isSending, !awaitsWritable else { return (0, false) }
    isSending = true
    return (0, true)
  }

  /// The rest of what the sender could not send: in front of everything queued since.
  package mutating func putBack(_ reply: consuming Outgoing) -> Int {
    guard life.isAlive else { return reply.chargedBytes }
    outgoingBytes += reply.queuedBytes
    outgoing.prepend(reply)
    return 0
  }

  /// For the sender: what to send next. Nil ends its turn.
  package mutating func nextToSend() -> Outgoing? {
    precondition(isSending, "only the sender takes replies")
    guard let next = outgoing.popFirst() else {
      isSending = false
      return nil
    }
    outgoingBytes -= next.queuedBytes
    return next
  }

  /// For the sender: the socket is full. The write source has to be armed unless the connection died meanwhile.
  package mutating func becomesBlocked() -> Bool {
    precondition(isSending, "only the sender finds the socket full")
    isSending = false
    awaitsWritable = life.isAlive
    return awaitsWritable
  }

  /// The socket takes bytes again: the caller is the sender now (false: nothing to do).
  package mutating func becomesWritable() -> Bool {
    guard awaitsWritable else { return false }
    awaitsWritable = false
    guard life.isAlive else { return false }
    isSending = true
    return true
  }

  // MARK: Leases

  /// Bytes have come: a worker may take the connection.
  /// - Returns: false when one serves it already, or none may.
  package mutating func beginLease() -> Bool {
    guard life == .open, !isLeased, !isPaused else { return false }
    isLeased = true
    return true
  }

  /// The worker gives the connection back.
  /// - Returns: whether to watch for further bytes.
  package mutating func endLease() -> Bool {
    precondition(isLeased, "only a lease that was taken ends")
    isLeased = false
    wakeIsPending = false
    return life == .open
  }

  // MARK: Pausing

  /// The connection may not take further requests now.
  package var mustPause: Bool {
    outgoingBytes > limits.sendQueuePauseBytes || inFlight.count >= limits.requestsInFlightMax
  }

  /// The lease holder gives the connection back because of `mustPause` or a budget. Parked bytes wait in the receiver.
  /// - Returns: false when room was made in the meantime: the lease goes on, and tries again.
  package mutating func pause() -> Bool {
    precondition(isLeased, "only the lease holder pauses")
    // While it owes too much the room does not help; what removes that wakes it again.
    let goesOn = exchange(&wakeIsPending, with: false) && !mustPause
    guard !goesOn else { return false }
    isPaused = true
    isLeased = false
    return true
  }

  /// Room was made: a request ended, bytes went out, or memory was given back.
  /// - Returns: true when the caller has to hand the connection, leased, to a worker.
  package mutating func wake() -> Bool {
    guard life == .open else { return false }
    if isLeased {
      wakeIsPending = true
      return false
    }
    guard isPaused, outgoingBytes < limits.sendQueueResumeBytes, inFlight.count <= limits.requestsInFlightMax / 2 else {
      return false
    }
    isPaused = false
    isLeased = true
    return true
  }

  // MARK: The end

  /// No further request is read.
  package mutating func finish() {
    if life == .open { life = .finishing }
  }

  /// The connection is dead: what is queued is dropped.
  /// - Returns: nil when it was dead already; else what goes back to the budget and the locks of the requests in flight.
  package mutating func die(_ reason: String) -> (refundBytes: Int, tokens: [RangeLockTable.Token])? {
    guard life.isAlive else { return nil }
    life = .dead(reason)
    var refund = 0
    while let reply = outgoing.popFirst() { refund += reply.chargedBytes }
    outgoingBytes = 0
    awaitsWritable = false
    // In order of arrival, so that a simulation repeats itself.
    return (refund, inFlight.sorted { $0.key < $1.key }.compactMap { $0.value.token })
  }

  /// Nothing is left to do for this connection.
  /// - Returns: true exactly once: the caller closes the descriptor.
  package mutating func mayClose() -> Bool {
    guard !isClosed, life != .open, !isLeased, !isSending, inFlight.isEmpty, outgoing.isEmpty else { return false }
    isClosed = true
    return true
  }

  /// The descriptor is, or is being, closed.
  package var isClosing: Bool { isClosed }

  /// Nobody serves it and it owes nothing. (While shutting down; a connection that waits for memory was woken before, so that
  /// its requests were refused.)
  package var isQuiet: Bool { !isLeased && !isSending && inFlight.isEmpty && outgoing.isEmpty }
}

extension Replies.Life {
  package var isAlive: Bool {
    switch self {
    case .open, .finishing: true
    case .dead: false
    }
  }
}
