// A worker serves one hot connection: receive, parse every complete request, execute, answer the batch with one send; until
// it is quiet, owes too much, or others wait.

import BlockBackend
import EventLoops
import NBDProtocol
import NBDServerCore
import Syscalls
import SystemPackage

extension Connection {
  /// Why the worker stopped looking at requests.
  private enum Stop {
    case needsBytes
    /// The next request cannot be taken now and stays where it is.
    case pause
    /// The next request is for a worker and stays where it is.
    case handOver
    case finish
  }

  /// Serves the connection. On a worker, which holds its lease from here on; `untilRequest`: does not wait, and leaves the
  /// first request to another.
  func serve(_ worker: inout Worker, untilRequest: Bool = false) {
    precondition(worker.batch.isEmpty, "a worker keeps nothing of one client for the next")
    while true {
      var receiver = takeReceiver()
      var room = worker.input.mutableBytes
      server.unpark(receiver.parkedBytes, of: self)
      worker.filledBytes = receiver.unpark(into: &room)
      let end = serve(&receiver, &worker, untilRequest)
      finishReads(&worker)
      worker.batch.account.leave()
      receiver.park(worker.input.bytes.extracting(first: worker.filledBytes))
      server.park(receiver.parkedBytes, of: self)
      worker.filledBytes = 0
      if endLease(receiver, end) { return }
    }
  }

  private func serve(_ receiver: inout Receiver, _ worker: inout Worker, _ untilRequest: Bool) -> LeaseEnd {
    var transmission = transmission
    var batches = 0
    var spin = SpinPolicy()
    // A spin that found bytes, until they have been looked at.
    var success: (awaitedPayload: Bool, wasInterrupted: Bool)?
    var receivedBytes = 0
    beginLease()
    worker.batch.account.enter(transmission)
    while true {
      worker.batch.account.begin()
      // Once per batch: the export may be paused, full, or on its way out. What has come stays where it is.
      if let served = transmission?.served, !served.isOpen, let end = served.hold(self) {
        worker.batch.account.leaveOver(worker.filledBytes > 0)
        return end
      }
      let stop: Stop
      let isTransmitting = transmission != nil
      worker.batch.clientRunsBeside = spin.clientRunsBeside()
      worker.batch.tookMessage = false
      do throws(ProtocolViolation) {
        var consumed = 0
        defer { worker.consume(consumed) }
        stop = try takeRequests(
          worker.input, worker.filledBytes, &consumed, &receiver, &worker.batch, &worker.cold, &transmission,
          untilRequest)
      } catch {
        // Replies to what came before the breach; nothing of this client may stay in the worker's buffers.
        flushNegotiation(&worker.batch)
        flush(&worker.batch)
        if transmission == nil { note(.protocolViolation) }
        die("the client broke the protocol at byte \(error.atByte): \(error.what)")
        return .finish
      }
      if let spun = success.take() {
        spin.ended(
          bringing: receivedBytes, awaitsPayload: spun.awaitedPayload, endsMessage: worker.batch.tookMessage,
          wasInterrupted: spun.wasInterrupted)
      }
      let owesLittle = flush(&worker.batch)
      let mayReceive: Bool
      switch stop {
      case .finish: return .finish
      case .pause:
        worker.batch.account.leaveOver(true)
        mayReceive = false
      case .handOver:
        worker.batch.account.leaveOver(true)
        return .othersWait
      case .needsBytes:
        worker.batch.account.leaveOver(false)
        mayReceive = owesLittle
      }
      guard isAlive else { return .finish }
      let mustDrain = leaseHolderAwaitsRoom.load(ordering: .relaxed)
      guard mayReceive || mustDrain else { return .pause }

      batches += 1
      let mayWait = mayWait(isTransmitting) && !untilRequest
      let othersWait = server.workers.itemsAreWaiting
      if othersWait && batches >= Limits.batchesPerTurnMax { return mayReceive ? .othersWait : .pause }
      let waitedForDisk = worker.cold.takeWaitedForDisk()
      if mustDrain {
        finishReads(&worker)
        switch awaitRoom(orBytes: mayReceive, waits: mayWait && !othersWait) {
        case .made:
          // Room in the socket does not help when too many requests are in flight.
          if !mayReceive && isFull { return .pause }
          continue
        case .none: return mayReceive ? .quiet : .pause
        case .bytesCame: break
        }
      } else if mayWait && !othersWait && !waitedForDisk && worker.cold.inFlightCount == 0,
        spin.spins(hasIdleCPU: server.hasIdleCPU)
      {
        let awaitsPayload = receiver.hasPayload || worker.filledBytes >= RequestHeader.byteCount
        let expectsMuch = awaitsPayload || receivedBytes > SpinPolicy.timedBytesMax
        let (received, wasInterrupted) = receiveSpinning(&receiver, &worker, expectsMuch: expectsMuch)
        switch received {
        case .bytes(let count):
          success = wasInterrupted.map { (awaitsPayload, $0) }
          receivedBytes = count
          continue
        case .nothing:
          spin.ended(bringing: 0, awaitsPayload: awaitsPayload, endsMessage: false, wasInterrupted: false)
        case .noMemory, .owesMuch: return .pause
        case .end: return .finish
        }
      }
      if worker.cold.inFlightCount > 0 {
        switch receiveBesideReads(&receiver, &worker, watchesSocket: !othersWait) {
        case .bytes(let count):
          if count > 0 { receivedBytes = count }
          continue
        case .nothing: break
        case .noMemory, .owesMuch: return .pause
        case .end: return .finish
        }
      }
      switch receive(&receiver, &worker, waits: mayWait && !othersWait && !mustDrain) {
      case .bytes(let count):
        receivedBytes = count
        continue
      case .nothing: return .quiet
      case .noMemory, .owesMuch: return .pause
      case .end: return .finish
      }
    }
  }

  // MARK: Requests

  /// Takes every complete request in the first `filledBytes` of `buffer`; `start` is how far it came.
  private func takeRequests(
    _ buffer: borrowing IOBuffer, _ filledBytes: Int, _ start: inout Int, _ receiver: inout Receiver,
    _ batch: inout ReplyBatch, _ cold: inout ColdReads, _ transmission: inout Transmission?, _ untilRequest: Bool
  ) throws(ProtocolViolation) -> Stop {
    let all = buffer.bytes.extracting(first: filledBytes)
    let server = server
    let exports = transmission == nil ? exportView() : .none
    while true {
      if receiver.payloadMissingBytes > 0 {
        guard fillPayload(&receiver, all, &start) else { return .pause }
        if receiver.payloadMissingBytes > 0 { return .needsBytes }
      }
      let input = all.extracting(droppingFirst: start)
      let (consumed, event) = try receiver.next(
        input, exports: exports, isShuttingDown: server.isShuttingDown, output: &batch.negotiation)
      switch event {
      case .needsBytes:
        start += consumed
        return .needsBytes
      case .negotiating:
        batch.tookMessage = true
        start += consumed
        guard flushNegotiation(&batch) else { return .pause }
      case .established(let session):
        batch.tookMessage = true
        start += consumed
        transmission = establish(session)
        batch.account.enter(transmission)
        guard flushNegotiation(&batch) else { return .pause }
        // Requests that came with the last option wait as well.
        if let served = transmission?.served, !served.isOpen { return .handOver }
      case .request(let request, let payload):
        // What has not started when the connection dies is cancelled (I6).
        guard isAlive else { return .finish }
        noteRequest()
        if untilRequest { return .handOver }
        batch.tookMessage = true
        guard let transmission else { preconditionFailure("requests follow the handshake") }
        cold.isLone = start == 0 && consumed == input.byteCount && batch.count == 0 && cold.inFlightCount == 0
        let admitted = transmission.admit(request, payload: input.extracting(payload), &batch, &cold)
        drainOwed()
        guard admitted else { return .pause }
        start += consumed
        // Also in the middle of a batch: replies from the file are queued one by one.
        if isFull || (sendsFiles && mustPause) { return .pause }
      case .largeWrite(let request):
        noteRequest()
        if untilRequest { return .handOver }
        start += consumed
        receiver.beginPayload(of: request)
        server.payloadBegan(of: self)
      case .largeWriteIsComplete(let request):
        batch.tookMessage = true
        guard let transmission else { preconditionFailure("requests follow the handshake") }
        transmission.admit(request, largePayload: receiver.takePayload(), &batch)
        server.payloadEnded(of: self)
        drainOwed()
        if isFull { return .pause }
      case .refused(let refusal):
        batch.tookMessage = true
        start += consumed
        guard let transmission else { preconditionFailure("requests follow the handshake") }
        if !batch.hasRoom(ReplyEncoder.errorBytesMax) { flush(&batch) }
        batch.append(refusal, encoder: transmission.encoder)
      case .disconnect:
        start += consumed
        return .finish
      case .close(let reason):
        start += consumed
        flushNegotiation(&batch)
        note(HandshakeFailure(closing: reason))
        log(.info, "closing: \(reason.text)")
        return .finish
      }
      // A batch of requests that are answered later, or a client that does not read, must not go on for ever.
      if (batch.isLarge || batch.tail != nil) && !flush(&batch) { return .pause }
    }
  }

  /// Sends what a request that ran here has left to send.
  private func drainOwed() {
    guard leaseHolderOwesDrain.load(ordering: .relaxed) else { return }
    leaseHolderOwesDrain.store(false, ordering: .relaxed)
    drain(as: .leaseHolder)
  }

  /// Moves bytes that are here already into the payload.
  /// - Returns: false when there is no memory for them now.
  private func fillPayload(
    _ receiver: inout Receiver, _ input: RawSpan, _ start: inout Int
  ) -> Bool {
    while start < input.byteCount && receiver.payloadMissingBytes > 0 {
      guard growPayload(&receiver) else { return false }
      var room = receiver.payloadRoom()
      let count = min(room.byteCount, input.byteCount - start)
      room.copy(input.extracting(start..<start + count))
      receiver.commitPayload(count)
      start += count
    }
    return true
  }

  /// Charges and adds memory for the next bytes of a payload: as they arrive, never as announced (I10).
  func growPayload(_ receiver: inout Receiver) -> Bool {
    let bytes = receiver.payloadGrowthBytes
    guard bytes > 0 else { return true }
    guard server.charge(bytes, to: self) == .granted else { return false }
    receiver.growPayload(by: bytes)
    return true
  }

  // MARK: Bytes out

  /// Sends the batch.
  /// - Returns: false when the client owes us reading.
  @discardableResult
  func flush(_ batch: inout ReplyBatch) -> Bool {
    guard batch.count > 0 else { return !mustPause }
    let tail = batch.tail.take()
    batch.account.publishCounts()
    let owesLittle = send(batch: batch.bytes, tail: tail)
    batch.account.publishLatencies()
    batch.removeAll()
    return owesLittle
  }

  /// Sends the replies to options, which may be longer than the batch has room for.
  @discardableResult
  private func flushNegotiation(_ batch: inout ReplyBatch) -> Bool {
    guard !batch.negotiation.isEmpty else { return true }
    flush(&batch)
    let replies = exchange(&batch.negotiation, with: [])
    return send(batch: replies.rawBytes)
  }
}
