// The buffers of a worker thread. Buffers belong to workers, not to connections: a thousand idle connections have none.

import BlockBackend
import NBDProtocol
import NBDServerCore

/// What one worker thread owns.
package struct Worker: ~Copyable {
  /// Received bytes that have not been consumed are at its front.
  var input = IOBuffer(count: Limits.workerBufferBytes)
  /// How many.
  var filledBytes = 0
  /// Replies of the current batch.
  var batch: ReplyBatch
  /// A large payload has just ended. Another one probably follows: only its header is received here, so that the rest need not be
  /// copied from here to where it belongs.
  var expectsLargeWrite = false
  /// READs that it waits for.
  var cold = ColdReads()

  init(latencies: LatencyShard) { batch = ReplyBatch(latencies: latencies) }

  /// Keeps only what lies behind the first `bytes`.
  mutating func consume(_ bytes: Int) {
    guard bytes > 0 else { return }
    let rest = bytes..<filledBytes
    if !rest.isEmpty {
      var bytes = input.mutableBytes
      bytes.moveToFront(rest)
    }
    filledBytes = rest.count
  }
}

/// Replies that go out with one send, built in place.
struct ReplyBatch: ~Copyable {
  private var buffer = IOBuffer(count: Limits.workerBufferBytes)
  private(set) var count = 0

  /// Replies to options.
  var negotiation: [UInt8] = []

  /// What follows the last reply: the batch has to be sent before anything is added.
  var tail: Replies.FileTail?

  /// What its requests come to.
  var account: BatchAccount

  init(latencies: LatencyShard) { account = BatchAccount(latencies: latencies) }

  var isEmpty: Bool { count == 0 && negotiation.isEmpty }

  /// Room for a reply of `bytes`.
  func hasRoom(_ bytes: Int) -> Bool { buffer.count - count >= bytes }

  /// A request, or something of an option, has been taken in this turn.
  var tookMessage = false

  /// The client can take replies while others are made (`SpinPolicy`).
  var clientRunsBeside = false

  /// Of the WRITEs that it answers.
  private var payloadBytes = 0

  /// Worth sending before the end of the batch.
  var isLarge: Bool {
    clientRunsBeside
      ? count + payloadBytes >= Limits.replyFlushBytesBesideClient : count >= Limits.replyFlushBytes
  }

  var bytes: RawSpan {
    @_lifetime(borrow self) get { buffer.bytes.extracting(first: count) }
  }

  mutating func removeAll() {
    count = 0
    payloadBytes = 0
    slowSince = nil
  }

  /// When the first slow request in it was done, nanoseconds of the monotonic clock.
  private var slowSince: Int64?

  /// For a slow request, whose reply is in the batch: replies have waited for longer than sending them takes by far.
  mutating func isOverdue(at now: Int64) -> Bool {
    guard let since = slowSince else {
      slowSince = now
      return false
    }
    return now - since > Limits.replyDelayNanosecondsMax
  }

  /// The room behind `offset` free bytes, `bytes` long: data of a READ goes straight behind its header.
  @_lifetime(&self)
  mutating func room(at offset: Int, bytes: Int) -> MutableRawSpan {
    let start = count + offset
    return buffer.mutableBytes(in: start..<start + bytes)
  }

  /// The header of a READ whose data follows the batch, from the file.
  mutating func appendRead(_ request: Request, from file: any LentFile, encoder: ReplyEncoder) {
    tail = Replies.FileTail(file: file, range: request.range)
    let start = count
    var all = buffer.mutableBytes
    let header = encoder.encodeReadHeader(
      cookie: request.cookie, offset: request.offset, dataBytes: request.length, into: &all, at: start)
    count = start + header
    account.succeeded(.read, bytes: Int(request.length))
  }

  /// The header of a READ whose data is already behind it.
  /// - Parameter takenNanoseconds: how long it took, when it came before the bytes of this batch.
  mutating func commitRead(_ request: Request, encoder: ReplyEncoder, takenNanoseconds: Int64? = nil) {
    let start = count
    var all = buffer.mutableBytes
    let header = encoder.encodeReadHeader(
      cookie: request.cookie, offset: request.offset, dataBytes: request.length, into: &all, at: start)
    count = start + header + Int(request.length)
    if let takenNanoseconds {
      account.succeededLate(.read, bytes: Int(request.length), nanoseconds: takenNanoseconds)
    } else {
      account.succeeded(.read, bytes: Int(request.length))
    }
  }

  mutating func appendSuccess(_ request: Request, encoder: ReplyEncoder) {
    let start = count
    var all = buffer.mutableBytes
    let bytes = encoder.encodeSuccess(cookie: request.cookie, into: &all, at: start)
    count = start + bytes
    if request.command == .write { payloadBytes += Int(request.length) }
    account.succeeded(request)
  }

  mutating func appendError(
    _ request: Request, _ error: NBDError, _ text: String, offset: UInt64?, encoder: ReplyEncoder
  ) {
    let start = count
    var all = buffer.mutableBytes
    let bytes = encoder.encodeError(
      cookie: request.cookie, command: request.command, error: error, text: text, offset: offset, into: &all, at: start)
    count = start + bytes
    account.failed(request.command, error)
  }

  mutating func append(_ refusal: Refusal, encoder: ReplyEncoder) {
    let start = count
    var all = buffer.mutableBytes
    let bytes = encoder.encodeRefusal(refusal, into: &all, at: start)
    count = start + bytes
    account.refused(refusal)
  }
}
