// A request that has left its worker: it waits for a lock, a disk or a sync, and replies by itself.

import BlockBackend
import Logging
import NBDProtocol
import NBDServerCore
import SystemPackage

/// One request off the fast path. Moved from thread to thread; whoever holds it has to end it, by `run`, `drop`, `succeed` or
/// `fail`.
struct Job: ~Copyable, Sendable {
  let transmission: Transmission
  let request: Request
  /// Its number on the connection.
  let id: UInt64
  /// When its bytes were received, nanoseconds of the monotonic clock.
  let beganNanoseconds: Int64
  /// The lock that it holds, or waits for.
  var token: LockToken?
  /// The payload of a WRITE.
  var payload: PieceBuffer?
  /// What the budget was charged for it, bytes.
  private(set) var chargedBytes: Int
  /// Who runs it.
  var sender = Sender.other

  private var connection: Connection { transmission.connection }
  private var image: Image { transmission.image }

  /// `fallocate` holds the inode for long: such requests stand in a line of their own.
  var isLongEffect: Bool {
    switch request.command {
    case .trim, .writeZeroes: Int(request.length) > Limits.inlineEffectBytesMax
    case .read, .write, .flush, .cache, .blockStatus, .disconnect: false
    }
  }

  /// Executes the request: its lock is held from here to the end of the last system call (I5). Blocks.
  consuming func run() {
    // What had not started when its connection died is cancelled (I6).
    guard connection.isAlive else { return drop() }
    switch request.command {
    case .read: runRead()
    case .write, .trim, .writeZeroes: runMutation()
    case .blockStatus: runBlockStatus()
    case .cache: runCache()
    case .flush: image.syncThenReply(self)
    case .disconnect: preconditionFailure("DISC is not executed")
    }
  }

  private consuming func runRead() {
    let transmission = transmission
    #if GUARD_SWITCHES
    // Both guards: the reply would be put together from what the file holds at several times.
    if !image.guards.stands(.layoutUnderLock) { unlock() }
    if !image.guards.stands(.privateCopyOfReads), let file = image.backend.lendFile() {
      unlock()
      return endBySendfile(file)
    }
    #endif
    do throws(BackendError) {
      let reply = try buildReadReply(
        request, encoder: transmission.encoder, plan: transmission.readPlan(request), backend: image.backend,
        pool: connection.pool)
      unlock()
      end(reply)
    } catch {
      fail(error, doing: .execute)
    }
  }

  private consuming func runMutation() {
    do throws(BackendError) {
      switch request.command {
      case .write: try write()
      case .trim: try image.backend.trim(request.range)
      case .writeZeroes: try image.backend.zero(request.range, request.zeroOptions)
      case .read, .flush, .cache, .blockStatus, .disconnect: preconditionFailure("only mutations come here")
      }
    } catch {
      return fail(error, doing: .execute)
    }
    unlock()
    dropPayload()
    guard request.flags.contains(.fua) else { return succeed() }
    // The sync thread will answer it.
    sender = .other
    image.syncThenReply(self)
  }

  /// A client that does not read its replies must not keep us from using the memory of its payloads.
  private mutating func dropPayload() {
    guard payload != nil else { return }
    payload = nil
    keepCharge(ofBytes: 0)
  }

  /// Gives back what was charged for more than it turned out to need: a reply of holes is short.
  private mutating func keepCharge(ofBytes bytes: Int) {
    let surplus = max(0, chargedBytes - bytes - Limits.overheadBytes)
    guard surplus > 0 else { return }
    chargedBytes -= surplus
    connection.release(surplus)
  }

  private borrowing func write() throws(BackendError) {
    var done = 0
    while done < Int(request.length) {
      let piece = payloadBytes(from: done)
      try image.backend.write(piece, at: request.offset + UInt64(done))
      done += piece.byteCount
    }
  }

  @_lifetime(borrow self)
  private borrowing func payloadBytes(from offset: Int) -> RawSpan {
    switch payload {
    case .some(let payload): return payload.bytes(from: offset)
    case .none: preconditionFailure("a WRITE has a payload")
    }
  }

  private consuming func runBlockStatus() {
    guard let contextID = transmission.session.allocationContextID else {
      preconditionFailure("validation demands a context")
    }
    do throws(BackendError) {
      #if GUARD_SWITCHES
      if !image.guards.stands(.layoutUnderLock) { unlock() }
      #endif
      var status = StatusDescriptors(
        request: request, blockBytesMin: transmission.session.export.blockBytesMin,
        countMax: Limits.extentsPerReplyMax)
      for extent in try image.backend.extents(of: request.range, extentsMax: Limits.extentsPerReplyMax) {
        status.append(lengthBytes: extent.lengthBytes, status: extent.kind.status)
      }
      status.finish()
      unlock()
      var reply = PieceBuffer(
        pool: connection.pool,
        capacityBytes: ReplyEncoder.blockStatusBytes(descriptors: status.descriptors.count))
      var room = reply.free(bytesMax: .max)
      let count = transmission.encoder.encodeBlockStatus(
        cookie: request.cookie, contextID: contextID, descriptors: status.descriptors.span, into: &room, at: 0)
      reply.commit(count)
      end(reply)
    } catch {
      fail(error, doing: .execute)
    }
  }

  private consuming func runCache() {
    do throws(BackendError) {
      try image.backend.cache(request.range)
    } catch {
      return fail(error, doing: .execute)
    }
    succeed()
  }

  /// The last system call has returned.
  private mutating func unlock() {
    guard let token = token.take() else { return }
    image.finish(token, mutated: request.command.rule.changesData)
  }

  // MARK: The end

  /// What an error was met in.
  enum Activity { case execute, sync }

  consuming func succeed() {
    unlock()
    var reply = PieceBuffer(pool: connection.pool, capacityBytes: transmission.encoder.successBytes)
    let (encoder, cookie) = (transmission.encoder, request.cookie)
    reply.appendHeader { (span: inout MutableRawSpan) in encoder.encodeSuccess(cookie: cookie, into: &span, at: 0) }
    end(reply)
  }

  consuming func fail(_ error: BackendError, doing activity: Activity) {
    unlock()
    let (text, wireError) = transmission.describe(error, of: request, doing: activity)
    let offset = error.offset(inside: request)
    let (encoder, request) = (transmission.encoder, request)
    var reply = PieceBuffer(pool: connection.pool, capacityBytes: ReplyEncoder.errorBytesMax)
    reply.appendHeader { (span: inout MutableRawSpan) in
      encoder.encodeError(
        cookie: request.cookie, command: request.command, error: wireError, text: text, offset: offset, into: &span,
        at: 0)
    }
    end(reply, wireError)
  }

  /// Its place among the waiters was taken back, so there is no lock to give up.
  consuming func cancel() {
    token = nil
    drop()
  }

  /// Nobody wants the answer: the request was cancelled before it began, or ends now.
  consuming func drop() {
    unlock()
    connection.end(id, of: transmission.served, chargedBytes: chargedBytes)
  }

  #if GUARD_SWITCHES
  /// What the guard `privateCopyOfReads` prevents: the pages of the file itself go into the socket.
  private consuming func endBySendfile(_ file: any LentFile) {
    var header = PieceBuffer(pool: connection.pool, capacityBytes: transmission.encoder.readHeaderBytes)
    let (encoder, request) = (transmission.encoder, request)
    header.appendHeader { (span: inout MutableRawSpan) in
      encoder.encodeReadHeader(
        cookie: request.cookie, offset: request.offset, dataBytes: request.length, into: &span, at: 0)
    }
    let tail = Replies.FileTail(file: file, range: request.range)
    connection.end(
      id, of: transmission.served,
      reply: Replies.Outgoing(header, fileTail: tail, chargedBytes: chargedBytes))
  }
  #endif

  private consuming func end(_ reply: consuming PieceBuffer, _ error: NBDError? = nil) {
    account(error)
    payload = nil
    keepCharge(ofBytes: reply.capacityBytes)
    connection.end(id, of: transmission.served, reply: Replies.Outgoing(reply, chargedBytes: chargedBytes), as: sender)
  }
}

extension Request {
  var zeroOptions: ZeroOptions {
    var options: ZeroOptions = []
    if flags.contains(.noHole) { options.insert(.noHole) }
    if flags.contains(.fastZero) { options.insert(.fast) }
    return options
  }
}

extension Extent.Kind {
  /// `base:allocation` of it.
  var status: AllocationStatus {
    switch self {
    case .data: []
    case .hole: [.hole, .zero]
    case .zero: .zero
    }
  }
}
