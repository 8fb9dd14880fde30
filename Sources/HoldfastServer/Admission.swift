// From a validated request to its execution (I5). The order is always: payload complete, room for the reply, range lock, system
// calls, unlock, sync if asked, reply. In the common case all of it happens here, on the worker; what would block takes
// what it needs and leaves for the slow lane. One worker admits the requests of a connection, in socket order.

import BlockBackend
import NBDProtocol
import NBDServerCore
import Syscalls
import SystemPackage

extension Transmission {
  /// Takes a request whose payload, if any, lies in the worker's buffer.
  /// - Returns: false when there is no memory for it now; nothing has happened then.
  func admit(
    _ asked: Request, payload: RawSpan, _ batch: inout ReplyBatch, _ cold: inout ColdReads
  ) -> Bool {
    let request = byTerms(asked)
    if !batch.hasRoom(roomBytes(request)) { connection.flush(&batch) }
    if connection.server.isShuttingDown {
      batch.appendError(
        request, .shutdown, "the server is shutting down", offset: nil, encoder: encoder)
      return true
    }
    switch request.command {
    case .flush where durability == .never: return admitNothing(request, &batch, &cold)
    case .flush: return admitFlush(request, &batch, &cold)
    case .trim where ignoresTrim: return admitNothing(request, &batch, &cold)
    case .read, .write, .trim, .cache, .writeZeroes, .blockStatus: break
    case .disconnect: preconditionFailure("DISC is not admitted")
    }
    guard request.length > 0 else { return admitNothing(request, &batch, &cold) }
    guard isInline(request), image.isLocal else { return leave(request, payload: payload, token: nil) }
    // A small READ takes what is in memory or nothing: it cannot hang, and does not count.
    let mayHang = request.command != .read || Int(request.length) >= Limits.holeProbeBytesMin
    guard !mayHang || image.beginInline() else { return leave(request, payload: payload, token: nil) }
    if mayHang { markInline(request) }
    defer {
      if mayHang {
        statistics.inline.clear()
        image.endInline()
      }
    }
    switch image.admit(request.range, request.lockMode) {
    case .waiting(let token): return leave(request, payload: payload, token: token, isWaiting: true)
    case .granted(let token):
      switch request.command {
      case .read: return read(request, token, &batch, &cold)
      case .write, .trim, .writeZeroes: return mutate(request, payload, token, &batch, &cold)
      case .flush, .cache, .blockStatus, .disconnect: preconditionFailure("these do not run on a worker")
      }
    }
  }

  /// There is nothing to do, but FUA still has to fail after a failed sync (I7).
  private func admitNothing(_ request: Request, _ batch: inout ReplyBatch, _ cold: inout ColdReads) -> Bool {
    if request.flags.contains(.fua) && request.command.rule.changesData { return admitFlush(request, &batch, &cold) }
    batch.appendSuccess(request, encoder: encoder)
    return true
  }

  /// Takes a WRITE whose payload is in memory of its own, charged already.
  func admit(_ asked: Request, largePayload: consuming PieceBuffer, _ batch: inout ReplyBatch) {
    let request = byTerms(asked)
    let charged = largePayload.capacityBytes
    guard !connection.server.isShuttingDown else {
      if !batch.hasRoom(ReplyEncoder.errorBytesMax) { connection.flush(&batch) }
      batch.appendError(request, .shutdown, "the server is shutting down", offset: nil, encoder: encoder)
      return connection.release(charged)
    }
    let job = Job(
      transmission: self, request: request, id: begin(request), beganNanoseconds: statistics.receivedNanoseconds,
      payload: largePayload, chargedBytes: charged)
    // While a CPU is idle and more requests are here, receiving them is work enough.
    let overlaps = connection.server.hasIdleCPU && Sockets.hasBytes(connection.descriptor)
    let runsHere =
      image.isLocal && !overlaps && Int(request.length) <= Limits.inlineLargeWriteBytesMax && image.beginInline()
    defer { if runsHere { image.endInline() } }
    submit(job, runsHere: runsHere)
  }

  /// Room in the batch that the reply may need.
  private func roomBytes(_ request: Request) -> Int {
    request.command == .read && Int(request.length) <= Limits.inlineBytesMax
      ? readReplyBytesMax(request, encoder: encoder) + ReplyEncoder.errorBytesMax : ReplyEncoder.errorBytesMax
  }

  /// Short enough to run on a worker.
  private func isInline(_ request: Request) -> Bool {
    switch request.command {
    // A long READ too, if it turns out to be cached.
    case .read: true
    case .write: Int(request.length) <= Limits.inlineBytesMax
    case .trim, .writeZeroes: Int(request.length) <= Limits.inlineEffectBytesMax
    case .cache, .blockStatus, .flush, .disconnect: false
    }
  }

  // MARK: On the worker

  private func read(
    _ request: Request, _ token: LockToken, _ batch: inout ReplyBatch, _ cold: inout ColdReads
  ) -> Bool {
    do throws(BackendError) {
      if Int(request.length) >= Limits.holeProbeBytesMin, readPlan(request).findsHoles,
        try image.backend.startsWithHole(request.range)
      {
        return leave(request, payload: RawSpan(), token: token)
      }
      let length = Int(request.length)
      // Asked once, and only for what depends on it.
      let isCached =
        (length > Limits.inlineBytesMax || length >= Limits.sendfileBytesMin && connection.sendsFiles)
        && image.backend.isCached(request.range)
      if isCached, length >= Limits.sendfileBytesMin, connection.sendsFiles, let file = image.backend.lendFile() {
        // Nobody changes the file while it is lent, so what is sent is what it holds now (I4).
        image.finish(token, mutated: false)
        batch.appendRead(request, from: file, encoder: encoder)
        return true
      }
      guard length <= Limits.inlineBytesMax else {
        return leave(request, payload: RawSpan(), token: token, runsHere: isCached)
      }
      var room = batch.room(at: encoder.readHeaderBytes, bytes: length)
      var isThere = try image.backend.readCached(into: &room, at: request.offset) == length
      if !isThere { isThere = try waitForRead(request, into: &room, &cold) }
      guard isThere else {
        if beginRead(request, token, &cold) { return true }
        return leave(request, payload: RawSpan(), token: token)
      }
    } catch {
      image.finish(token, mutated: false)
      fail(request, error, &batch)
      return true
    }
    image.finish(token, mutated: false)
    batch.commitRead(request, encoder: encoder)
    return true
  }

  private func mutate(
    _ request: Request, _ payload: RawSpan, _ token: LockToken, _ batch: inout ReplyBatch, _ cold: inout ColdReads
  ) -> Bool {
    do throws(BackendError) {
      switch request.command {
      case .write: try image.backend.write(payload, at: request.offset)
      case .trim: try image.backend.trim(request.range)
      case .writeZeroes: try image.backend.zero(request.range, request.zeroOptions)
      case .read, .flush, .cache, .blockStatus, .disconnect: preconditionFailure("only mutations come here")
      }
    } catch {
      image.finish(token, mutated: true)
      fail(request, error, &batch)
      return true
    }
    image.finish(token, mutated: true)
    if request.flags.contains(.fua) {
      sync(request, &cold)
      return true
    }
    batch.appendSuccess(request, encoder: encoder)
    // fallocate may take as long as many sends: the client goes on meanwhile.
    if request.command != .write && batch.isOverdue(at: MonotonicClock.nanoseconds) { connection.flush(&batch) }
    return true
  }

  private func admitFlush(_ request: Request, _ batch: inout ReplyBatch, _ cold: inout ColdReads) -> Bool {
    if image.isDurable { batch.appendSuccess(request, encoder: encoder) } else { sync(request, &cold) }
    return true
  }

  private func fail(_ request: Request, _ error: BackendError, _ batch: inout ReplyBatch) {
    let (text, wireError) = describe(error, of: request, doing: .execute)
    batch.appendError(request, wireError, text, offset: error.offset(inside: request), encoder: encoder)
  }

  /// Shows a request that the worker executes and that may hang; until `statistics.inline.clear()`.
  func markInline(_ request: Request) {
    statistics.inline.set(request, beganNanoseconds: statistics.receivedNanoseconds)
  }

  // MARK: Off the worker

  /// Waits for a sync without holding a lock: on the worker for a lone FUA write while syncs are quick, which saves two
  /// thread switches. Otherwise not, so that READs behind it do not wait.
  private func sync(_ request: Request, _ cold: inout ColdReads) {
    connection.server.chargeExisting(Limits.overheadBytes, to: connection)
    cold.willWaitForDisk()
    // From here on it is in flight under its number; with both it would be told of twice.
    statistics.inline.clear()
    image.syncThenReply(
      Job(
        transmission: self, request: request, id: begin(request), beganNanoseconds: statistics.receivedNanoseconds,
        payload: nil, chargedBytes: Limits.overheadBytes),
      onWorkerOf: cold.isLone && request.command == .write ? connection.server.workers : nil)
  }

  /// The request leaves the worker with what it needs: memory for its payload or reply, and its lock or place in the queue. Or
  /// it only takes these, and `runsHere`.
  /// - Returns: false when there is no memory; then the lock or the place has been given up.
  private func leave(
    _ request: Request, payload: RawSpan, token: LockToken?, isWaiting: Bool = false, runsHere: Bool = false
  ) -> Bool {
    let bytes = memoryBytes(request)
    statistics.inline.clear()
    guard connection.server.charge(bytes, to: connection) == .granted else {
      if let token {
        if isWaiting { image.abandon(token) } else { image.finish(token, mutated: false) }
      }
      return false
    }
    var job = Job(
      transmission: self, request: request, id: begin(request), beganNanoseconds: statistics.receivedNanoseconds,
      payload: nil, chargedBytes: bytes)
    if payload.byteCount > 0 {
      var copy = PieceBuffer(pool: connection.pool, capacityBytes: payload.byteCount)
      copy.append(payload)
      job.payload = consume copy
    }
    guard let token else {
      submit(job)
      return true
    }
    place(job, token, isWaiting: isWaiting, runsHere: runsHere)
    return true
  }

  /// Memory that a request holds until its reply is sent.
  func memoryBytes(_ request: Request) -> Int {
    switch request.command {
    case .read: Limits.overheadBytes + readReplyBytesMax(request, encoder: encoder)
    case .write: Limits.overheadBytes + Int(request.length)
    case .blockStatus:
      Limits.overheadBytes + ReplyEncoder.blockStatusBytes(descriptors: Limits.extentsPerReplyMax)
    case .trim, .writeZeroes, .cache, .flush, .disconnect: Limits.overheadBytes
    }
  }

  /// Queues for the lock, and runs on the slow lane, or here if it need not wait.
  private func submit(_ job: consuming Job, runsHere: Bool = false) {
    let request = job.request
    switch image.admit(request.range, request.lockMode) {
    case .granted(let token): place(job, token, isWaiting: false, runsHere: runsHere)
    case .waiting(let token): place(job, token, isWaiting: true, runsHere: false)
    }
  }

  /// The job goes where its lock, or its place in the queue for one, lets it.
  private func place(_ job: consuming Job, _ token: LockToken, isWaiting: Bool, runsHere: Bool) {
    connection.setToken(token, of: job.id)
    job.token = token
    if isWaiting {
      image.park(Parked(job, isQueued: true), behind: token)
    } else if runsHere {
      job.sender = .leaseHolder
      job.run()
    } else {
      image.schedule(Parked(job))
    }
  }
}

extension BlockBackend {
  /// Whether a READ of `range` is better answered with a hole.
  fileprivate func startsWithHole(_ range: Range<UInt64>) throws(BackendError) -> Bool {
    let first = try extents(of: range, extentsMax: 1)
    return first.first.map { $0.kind == .hole || $0.lengthBytes < range.upperBound - range.lowerBound } ?? false
  }
}

extension BackendError {
  /// The first byte that failed, where the client may be told about it.
  func offset(inside request: Request) -> UInt64? {
    offset.flatMap { request.range.contains($0) ? $0 : nil }
  }
}

extension Request {
  var lockMode: LockTableMode {
    switch command.rule.lock {
    case .shared: .shared
    case .exclusive: .exclusive
    case .none: preconditionFailure("FLUSH and DISC lock nothing")
    }
  }
}
