// The input half of a connection: bytes in, requests out. A pure value with one owner, the lease holder; parked with the
// connection while nobody serves it. It keeps nothing but a partial payload, so that a lease can be returned at any byte.

import BlockBackend
import NBDProtocol

package struct Receiver: ~Copyable, Sendable {
  /// What the bytes at the front of the input are.
  package enum Event: Sendable {
    /// Not complete. Everything before it has been consumed.
    case needsBytes
    /// Replies to options have been appended to the output.
    case negotiating
    /// The handshake is over; requests follow.
    case established(Session)
    /// A request; for a WRITE its payload lies at `payload` of the input.
    case request(Request, payload: Range<Int>)
    /// A WRITE whose payload does not fit a worker's buffer: call `beginPayload`, or do not consume it yet.
    case largeWrite(Request)
    /// The payload of a large WRITE is complete: call `takePayload`.
    case largeWriteIsComplete(Request)
    /// A request that gets an error. Its payload has been drained.
    case refused(Refusal)
    /// NBD_CMD_DISC.
    case disconnect
    /// The session ends after what is in the output has been sent.
    case close(CloseReason)
  }

  private enum Phase: Sendable {
    case handshake(Handshake)
    case transmission(Session)
    case ended
  }

  private var phase: Phase
  private var refusalAfterDrain: Refusal?
  private var drainBytes = 0
  /// A WRITE whose payload arrives in pieces.
  private var largeWrite: Request?
  private var payload: PieceBuffer
  private var parked: IOBuffer?
  private let pool: PiecePool
  private let guards: GuardSwitches

  package init(limits: Limits, pool: PiecePool, guards: GuardSwitches = .allStand) {
    self.pool = pool
    self.guards = guards
    payload = PieceBuffer(pool: pool, capacityBytes: 0)
    phase = .handshake(Handshake(limits: limits.handshake))
  }

  /// The negotiated session, once there is one.
  package var session: Session? {
    if case .transmission(let session) = phase { session } else { nil }
  }

  /// Looks at the front of `input`.
  /// - Returns: how many bytes are done with, and what they were. A request is not consumed by this call: `consumed` counts
  ///   its bytes, and a caller that cannot take it now keeps them and asks again later.
  package mutating func next(
    _ input: RawSpan, exports: some ExportDirectory, isShuttingDown: Bool, output: inout [UInt8]
  ) throws(ProtocolViolation) -> (consumed: Int, event: Event) {
    if drainBytes > 0 {
      let drained = min(drainBytes, input.byteCount)
      drainBytes -= drained
      guard drainBytes == 0 else { return (drained, .needsBytes) }
      guard let refusal = refusalAfterDrain else { preconditionFailure("only a refused payload is drained") }
      refusalAfterDrain = nil
      return (drained, .refused(refusal))
    }
    switch phase {
    case .handshake(var handshake):
      let progress = try handshake.receive(
        input, exports: exports, isShuttingDown: isShuttingDown, output: &output)
      phase = .handshake(handshake)
      switch progress.outcome {
      case .needsMore: return (progress.consumed, progress.consumed > 0 ? .negotiating : .needsBytes)
      case .sendFirst: return (progress.consumed, .negotiating)
      case .close(let reason):
        phase = .ended
        return (progress.consumed, .close(reason))
      case .transmission(let negotiated):
        #if GUARD_SWITCHES
        let session = negotiated.with(refusesUnadvertised: guards.stands(.refuseUnadvertised))
        #else
        let session = negotiated
        #endif
        phase = .transmission(session)
        return (progress.consumed, .established(session))
      }
    case .transmission(let session):
      return try nextRequest(input, session: session)
    case .ended:
      return (input.byteCount, .needsBytes)
    }
  }

  private mutating func nextRequest(
    _ input: RawSpan, session: Session
  ) throws(ProtocolViolation) -> (consumed: Int, event: Event) {
    if let largeWrite {
      return (0, payloadMissingBytes > 0 ? .needsBytes : .largeWriteIsComplete(largeWrite))
    }
    guard input.byteCount >= RequestHeader.byteCount else { return (0, .needsBytes) }
    let header = try RequestHeader.decode(input)
    switch try session.validate(header) {
    case .accepted(let request):
      switch request.command {
      case .disconnect:
        phase = .ended
        return (RequestHeader.byteCount, .disconnect)
      case .write:
        let length = Int(request.length)
        guard length <= Limits.inlineBytesMax else { return (RequestHeader.byteCount, .largeWrite(request)) }
        let end = RequestHeader.byteCount + length
        guard input.byteCount >= end else { return (0, .needsBytes) }
        return (end, .request(request, payload: RequestHeader.byteCount..<end))
      case .read, .flush, .trim, .cache, .writeZeroes, .blockStatus:
        return (RequestHeader.byteCount, .request(request, payload: 0..<0))
      }
    case .refused(let refusal):
      guard refusal.payloadBytes > 0 else { return (RequestHeader.byteCount, .refused(refusal)) }
      drainBytes = Int(refusal.payloadBytes)
      refusalAfterDrain = refusal
      return (RequestHeader.byteCount, .negotiating)
    }
  }

  // MARK: Large payloads

  /// The payload of `request` arrives from now on, in memory that `growPayload` adds.
  package mutating func beginPayload(of request: Request) {
    precondition(largeWrite == nil, "one payload arrives at a time")
    largeWrite = request
  }

  /// A large payload is on its way, or complete and not taken.
  package var hasPayload: Bool { largeWrite != nil }

  /// Bytes of a large payload that have not arrived.
  package var payloadMissingBytes: Int { largeWrite.map { Int($0.length) - payload.count } ?? 0 }

  /// Memory that has to be charged and added with `growPayload` before more can be received; 0 while there is room.
  package var payloadGrowthBytes: Int {
    payload.freeBytes > 0 ? 0 : min(payloadMissingBytes, PiecePool.pieceBytes)
  }

  package mutating func growPayload(by bytes: Int) { payload.grow(by: bytes) }

  /// Where the next bytes of the payload belong. Call `commitPayload` with how many came.
  @_lifetime(&self)
  package mutating func payloadRoom() -> MutableRawSpan { payload.free(bytesMax: payloadMissingBytes) }

  package mutating func commitPayload(_ bytes: Int) { payload.commit(bytes) }

  /// The payload, complete or given up; its owner is the caller now.
  package mutating func takePayload() -> PieceBuffer {
    largeWrite = nil
    return exchange(&payload, with: PieceBuffer(pool: pool, capacityBytes: 0))
  }

  // MARK: Parking

  /// Keeps bytes that were received and not consumed while nobody serves the connection.
  package mutating func park(_ bytes: RawSpan) {
    parkedBytes = bytes.byteCount
    parked = bytes.byteCount > 0 ? IOBuffer(copying: bytes) : nil
  }

  /// Bytes that are parked.
  package private(set) var parkedBytes = 0

  /// Puts the parked bytes back to the front of a worker's buffer.
  package mutating func unpark(into buffer: inout MutableRawSpan) -> Int {
    guard let bytes = parked.take() else { return 0 }
    parkedBytes = 0
    buffer.copy(bytes.bytes)
    return bytes.count
  }
}
