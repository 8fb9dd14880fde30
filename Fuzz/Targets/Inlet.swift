// The input half of a connection, driven as a worker drives it: bytes in, events out, large payloads in pieces, and the rest
// parked whenever the caller likes.

import BlockBackend
import NBDProtocol
import NBDServerCore

struct Inlet: ~Copyable {
  enum Event {
    case established(Session)
    case request(Request, payload: [UInt8])
    case refused(Refusal)
    case disconnect
    case close(String)
    case violation(ProtocolViolation)
  }

  private var receiver: Receiver
  private var input: [UInt8] = []
  /// What has been consumed of it.
  private var start = 0
  private var hasEnded = false
  /// Replies to options that nobody has taken yet.
  var output: [UInt8] = []

  init(pool: PiecePool) { receiver = Receiver(limits: Limits(), pool: pool) }

  /// Bytes that were received and not consumed.
  var keptBytes: Int { input.count - start }

  mutating func push(_ bytes: some Sequence<UInt8>) {
    input.removeFirst(start)
    start = 0
    input += bytes
  }

  /// Gives the worker back and takes another.
  mutating func park() throws {
    // Worker buffers hold no more; what is in a payload has left the buffer already.
    guard keptBytes <= Limits.workerBufferBytes else { return }
    let bytes = Array(input[start...])
    receiver.park(bytes.rawBytes)
    try demand(receiver.parkedBytes == bytes.count, "all bytes are parked")
    var buffer = [UInt8](repeating: 0xdd, count: bytes.count)
    var span = buffer.mutableSpan
    var room = span.mutableBytes
    let count = receiver.unpark(into: &room)
    try demand(count == bytes.count && buffer == bytes, "what was parked comes back as it was")
  }

  /// The next event, or nil when more bytes are needed.
  mutating func next(_ exports: some ExportDirectory, isShuttingDown: Bool = false) throws -> Event? {
    guard !hasEnded else { return nil }
    while true {
      takePayload()
      let (consumed, event): (Int, Receiver.Event)
      let bytes = input
      do throws(ProtocolViolation) {
        (consumed, event) = try receiver.next(
          bytes.rawBytes.extracting(start..<bytes.count), exports: exports, isShuttingDown: isShuttingDown,
          output: &output)
      } catch {
        hasEnded = true
        return .violation(error)
      }
      try demand(consumed <= keptBytes, "no more is consumed than is there")
      switch event {
      case .needsBytes:
        start += consumed
        return nil
      case .negotiating:
        try demand(consumed > 0 || !output.isEmpty, "haggling makes progress")
        start += consumed
      case .established(let session):
        start += consumed
        return .established(session)
      case .request(let request, let range):
        try demand(range.upperBound <= consumed, "the payload belongs to its request")
        let payload = Array(input[start + range.lowerBound..<start + range.upperBound])
        start += consumed
        return .request(request, payload: payload)
      case .largeWrite(let request):
        try demand(Int(request.length) > Limits.inlineBytesMax, "only what a worker cannot hold is large")
        start += consumed
        receiver.beginPayload(of: request)
      case .largeWriteIsComplete(let request):
        return .request(request, payload: receiver.takePayload().array())
      case .refused(let refusal):
        start += consumed
        return .refused(refusal)
      case .disconnect:
        hasEnded = true
        return .disconnect
      case .close(let reason):
        hasEnded = true
        return .close(reason.text)
      }
    }
  }

  private mutating func takePayload() {
    guard receiver.hasPayload else { return }
    while start < input.count, receiver.payloadMissingBytes > 0 {
      let growth = receiver.payloadGrowthBytes
      if growth > 0 { receiver.growPayload(by: growth) }
      var room = receiver.payloadRoom()
      let count = min(room.byteCount, input.count - start)
      room.copy(input[start..<start + count])
      receiver.commitPayload(count)
      start += count
    }
  }
}

extension PieceBuffer {
  /// A copy of everything in use.
  borrowing func array() -> [UInt8] {
    var all: [UInt8] = []
    all.reserveCapacity(count)
    while all.count < count { all += [UInt8](copying: bytes(from: all.count)) }
    return all
  }
}
