// The server's side of a connection: the real Receiver and Replies, driven in the order of the daemon (Lease.swift,
// Admission.swift, Sending.swift in HoldfastServer), one request, system call or send per event.

import BlockBackend
import NBDProtocol
import NBDServerCore
import RangeLocks

/// What passes between the two ends of a socket, in order.
struct Pipe {
  var bytes: [UInt8] = []
  var start = 0
  /// Nothing follows.
  var isEnded = false

  var count: Int { bytes.count - start }

  mutating func append(_ more: some Collection<UInt8>) { bytes += more }

  mutating func take(_ count: Int) -> ArraySlice<UInt8> {
    let taken = bytes[start..<start + count]
    start += count
    if start > 4096 && start * 2 > bytes.count {
      bytes.removeFirst(start)
      start = 0
    }
    return taken
  }

  mutating func removeAll() {
    bytes.removeAll()
    start = 0
  }
}

final class SimulatedConnection {
  let id: Int
  let clientNumber: Int
  unowned let server: SimulatedServer

  // The network. `toServer` and `toClient` are on their way; `arrived` waits in the socket of the server.
  var toServer = Pipe()
  var toClient = Pipe()
  var arrived = Pipe()
  var hasHangUp = false

  var receiver: Receiver
  var replies: Replies
  var session: Session?
  var encoder = ReplyEncoder(mode: .simple)
  /// What the lease holder has received and not consumed.
  var input: [UInt8] = []
  var negotiation: [UInt8] = []
  var batch: [UInt8] = []
  var scratch = IOBuffer(count: 1024)

  /// The worker waits for this request, which it executes itself.
  var inlineJob: SimulatedJob?
  /// The worker waits until its batch is in the socket or in the queue.
  var workerSends = false
  /// How the lease ends once the batch is out.
  var endsWith: LeaseEnd?
  var isSending = false
  var sendingBatch: [UInt8] = []
  var sending: Replies.Outgoing?
  var watchesReadable = true
  var isClosed = false

  /// The socket was full.
  var awaitsWritable = false

  enum LeaseEnd { case quiet, pause, finish }

  init(id: Int, client: Int, server: SimulatedServer) {
    self.id = id
    clientNumber = client
    self.server = server
    receiver = Receiver(limits: server.limits, pool: server.pool, guards: server.image.guards)
    replies = Replies(limits: server.limits)
    beginSending(Handshake.greeting, fromWorker: false)
  }

  var isAlive: Bool { replies.life.isAlive }
  var isOver: Bool { isClosed }
  var budgetID: ConnectionID { ConnectionID(rawValue: UInt64(id)) }

  // MARK: What the world may do with it

  var mayServe: Bool { replies.isLeased && inlineJob == nil && !workerSends }
  var mayBecomeReadable: Bool {
    guard watchesReadable, !replies.isLeased, !isClosed else { return false }
    return arrived.count > 0 || arrived.isEnded || hasHangUp
  }
  var mayHangUp: Bool { hasHangUp && replies.isPaused && isAlive }

  func becomeReadable() {
    watchesReadable = false
    guard replies.beginLease() else { return }
    unpark()
  }

  func unpark() {
    server.wake(server.budget.unpark(budgetID))
    input = receiver.unparkedBytes()
  }

  func hangUp() { die("the client is gone") }

  // MARK: The lease holder

  /// One request, one receive, or the end of the lease.
  func serve() {
    if let end = endsWith.take() { return endLease(end) }
    guard isAlive else { return endLease(.finish) }
    do throws(ProtocolViolation) {
      try serveOnce()
    } catch {
      flushNegotiation()
      die("the client broke the protocol at byte \(error.atByte): \(error.what)")
      endLease(.finish)
    }
  }

  func serveOnce() throws(ProtocolViolation) {
    if receiver.payloadMissingBytes > 0 {
      guard fillPayload() else { return end(.pause) }
      if receiver.payloadMissingBytes > 0 { return receive() }
    }
    let bytes = input
    let (consumed, event) = try receiver.next(
      bytes.rawBytes, exports: server.exports, isShuttingDown: false, output: &negotiation)
    switch event {
    case .needsBytes:
      consume(consumed)
      receive()
    case .negotiating:
      consume(consumed)
      flushNegotiation()
    case .established(let session):
      consume(consumed)
      self.session = session
      encoder = ReplyEncoder(session: session)
      server.budget.attach(budgetID, to: ImageKey(rawValue: 0))
      flushNegotiation()
    case .request(let request, let payload):
      guard isAlive else { return end(.finish) }
      guard admit(request, payload: [UInt8](input[payload])) else { return end(.pause) }
      consume(consumed)
      if inlineJob == nil { afterRequest() }
    case .largeWrite(let request):
      consume(consumed)
      receiver.beginPayload(of: request)
      server.budget.payloadBegins(budgetID)
    case .largeWriteIsComplete(let request):
      admitLarge(request)
      server.wake(server.budget.payloadEnds(budgetID))
      afterRequest()
    case .refused(let refusal):
      consume(consumed)
      append(ReplyEncoder.errorBytesMax) { encoder, span in encoder.encodeRefusal(refusal, into: &span, at: 0) }
    case .disconnect:
      consume(consumed)
      end(.finish)
    case .close:
      consume(consumed)
      flushNegotiation()
      end(.finish)
    }
  }

  func afterRequest() {
    if replies.mustPause { return end(.pause) }
    if batch.count >= server.scenario.batchBytes { flush() }
  }

  /// The batch goes out, then the lease ends.
  func end(_ end: LeaseEnd) {
    endsWith = end
    flush()
  }

  func consume(_ count: Int) { input.removeFirst(count) }

  func receive() {
    if !batch.isEmpty { return flush() }
    if replies.mustPause { return end(.pause) }
    if hasHangUp {
      die("the client is gone")
      return end(.finish)
    }
    guard arrived.count > 0 else { return end(arrived.isEnded ? .finish : .quiet) }
    let count = server.dice.chance(500) ? arrived.count : server.dice.within(1...arrived.count)
    if receiver.payloadMissingBytes > 0 {
      guard growPayload() else { return end(.pause) }
      receiver.takePart(of: arrived.take(min(count, receiver.payloadRoomBytes)))
    } else {
      input += arrived.take(count)
    }
  }

  func fillPayload() -> Bool {
    while !input.isEmpty && receiver.payloadMissingBytes > 0 {
      guard growPayload() else { return false }
      let count = min(receiver.payloadRoomBytes, input.count)
      receiver.takePart(of: input[0..<count])
      consume(count)
    }
    return true
  }

  func growPayload() -> Bool {
    let bytes = receiver.payloadGrowthBytes
    guard bytes > 0 else { return true }
    guard charge(bytes) else { return false }
    receiver.growPayload(by: bytes)
    return true
  }

  func endLease(_ end: LeaseEnd) {
    if end == .finish { dropPayload() }
    let bytes = input
    receiver.park(bytes.rawBytes)
    server.budget.park(receiver.parkedBytes, of: budgetID)
    input = []
    switch end {
    case .quiet: watchesReadable = replies.endLease()
    case .pause:
      guard replies.pause() else {
        // Room was made in the meantime: the lease goes on.
        unpark()
        return
      }
    case .finish:
      replies.finish()
      _ = replies.endLease()
    }
    closeIfDone()
  }

  func dropPayload() {
    guard receiver.hasPayload else { return }
    let bytes = receiver.takePayload().capacityBytes
    server.wake(server.budget.payloadEnds(budgetID))
    release(bytes)
  }

  /// Room was made.
  func wake() {
    guard replies.wake() else { return }
    unpark()
  }

  // MARK: Memory

  func charge(_ bytes: Int) -> Bool {
    let isGranted = server.budget.charge(bytes, to: budgetID) == .granted
    if isGranted { server.granted(bytes, to: self) }
    return isGranted
  }

  func charge(existing bytes: Int) {
    server.budget.chargeExisting(bytes, to: budgetID)
  }

  func release(_ bytes: Int) {
    guard bytes > 0 else { return }
    server.wake(server.budget.release(bytes, of: budgetID))
  }

  var heldBytes: Int { server.budget.held(by: budgetID) }

  // MARK: The end

  func die(_ reason: String) {
    guard let death = replies.die(reason) else { return }
    server.died(self, reason)
    toClient.isEnded = true
    release(death.refundBytes)
    server.image.cancelWaiting(death.tokens)
    closeIfDone()
  }

  func closeIfDone() {
    guard inlineJob == nil, replies.mayClose() else { return }
    isClosed = true
    awaitsWritable = false
    server.wake(server.budget.unpark(budgetID))
    dropPayload()
    toClient.isEnded = true
    server.budget.forget(budgetID)
    server.closed(self)
  }
}

/// What a socket would fill.
extension Receiver {
  fileprivate var payloadRoomBytes: Int {
    mutating get { payloadRoom().byteCount }
  }

  fileprivate mutating func takePart(of bytes: ArraySlice<UInt8>) {
    var room = payloadRoom()
    room.copy(bytes)
    commitPayload(bytes.count)
  }

  fileprivate mutating func unparkedBytes() -> [UInt8] {
    var buffer = IOBuffer(count: max(1, parkedBytes))
    var room = buffer.mutableBytes
    let count = unpark(into: &room)
    return [UInt8](copying: buffer.bytes.extracting(first: count))
  }
}

/// Stands for a file that somebody may change.
final class Loan: LentFile {
  let descriptor: Int32 = -1
}
