// READs whose pages are not in memory. A lone one is waited for on the worker; several go to the worker's io_uring, and the
// worker goes on with its connection meanwhile. Locks are held from admission to the last system call, as everywhere (I5),
// and a lease ends only when all that it has in flight has ended (I6).

import BlockBackend
import Logging
import NBDProtocol
import NBDServerCore
import Syscalls
import SystemPackage

/// What happens to READs whose pages are not in memory, on local file systems.
package enum ColdReadMode: Sendable, Equatable {
  /// They go to an io_uring of so many slots for each worker, where the kernel gives one.
  case ring(slots: Int = 128)
  /// They go to the slow lane.
  case threads

  /// The ring, unless HOLDFAST_COLD_READS says "threads": so that every test can be run both ways.
  package static var ofEnvironment: ColdReadMode {
    environmentVariable("HOLDFAST_COLD_READS") == "threads" ? .threads : .ring()
  }
}

/// What one worker has in flight for the connection that it serves.
struct ColdReads: ~Copyable {
  struct Pending {
    let request: Request
    let token: LockToken
    /// What the budget was charged for it, bytes.
    let chargedBytes: Int
    /// When it was received, nanoseconds of the monotonic clock.
    let beganNanoseconds: Int64
  }

  private(set) var ring = ReadRing()
  private var pending: [Pending?] = []
  /// Whose reads are in flight.
  private(set) var transmission: Transmission?
  /// They count as one request in flight of the connection.
  private(set) var id: UInt64 = 0

  /// The request that is being admitted is all there is to do.
  var isLone = false
  /// A client that keeps several requests in flight may seem to send one at a time, because waiting for the first keeps
  /// the worker from seeing the others. Lone misses left until it is looked at again.
  private var notLoneFor = 0
  private var waits = 0
  private var waitedForDisk = false

  var inFlightCount: Int { ring.inFlightCount }

  /// Whether to wait on the worker, with nothing else to do.
  mutating func mayWait() -> Bool {
    guard isLone else { return false }
    guard notLoneFor == 0 else {
      notLoneFor -= 1
      return false
    }
    return true
  }

  /// The worker has waited for a lone read, whose reply is not sent yet: what has come meanwhile did not depend on it.
  /// Looks at the first one and at every eighth.
  mutating func hasWaited(beside socket: Int32) {
    if waits % 8 == 0 && Sockets.hasBytes(socket) { notLoneFor = 64 }
    waits += 1
    waitedForDisk = true
  }

  /// The worker is going to wait for a sync.
  mutating func willWaitForDisk() { waitedForDisk = true }

  /// Whether the worker has waited for a lone read or a sync since this was asked last.
  mutating func takeWaitedForDisk() -> Bool { exchange(&waitedForDisk, with: false) }

  /// Makes the ring.
  mutating func open(slots: Int) throws(Errno) {
    try ring.open(slotsMax: slots)
    pending = Array(repeating: nil, count: slots)
  }

  /// The first of several reads is about to be queued.
  mutating func begin(_ transmission: Transmission) {
    self.transmission = transmission
    id = transmission.connection.begin(of: transmission.served)
  }

  /// The last has ended.
  mutating func end() -> Transmission? { transmission.take() }

  /// Queues a read.
  /// - Returns: false when all slots are taken.
  mutating func queue(_ read: Pending, from descriptor: Int32) -> Bool {
    guard let slot = ring.read(descriptor, at: read.request.offset, bytes: Int(read.request.length)) else {
      return false
    }
    pending[slot.index] = read
    return true
  }

  mutating func wait(socket: Int32?) { ring.wait(socket: socket) }

  mutating func next() -> ReadRing.Event? { ring.next() }

  mutating func take(_ slot: ReadRing.Slot) -> Pending {
    guard let read = pending[slot.index].take() else { preconditionFailure("a read in flight belongs to a request") }
    if slot.index == marked { unmark() }
    return read
  }

  // MARK: What may be seen of it

  /// The slot of the read that others may look at. Not always the oldest; but when reads hang, one of those.
  private var marked: Int?

  /// Before waiting.
  mutating func markOne() {
    guard marked == nil, let transmission, let slot = pending.firstIndex(where: { $0 != nil }), let read = pending[slot]
    else { return }
    transmission.statistics.ring.set(read.request, beganNanoseconds: read.beganNanoseconds)
    marked = slot
  }

  private mutating func unmark() {
    transmission?.statistics.ring.clear()
    marked = nil
  }

  mutating func free(_ slot: ReadRing.Slot) { ring.free(slot) }

  /// The lease ends.
  mutating func rest() {
    notLoneFor = 0
    waits = 0
    if ring.isOpen { ring.rest() }
  }
}

// MARK: - On the way in

extension Transmission {
  /// Waits for a lone READ, with its lock held, while another worker may run in place of this one.
  /// - Returns: false when as many workers as may wait for this image do so.
  func waitForRead(
    _ request: Request, into room: inout MutableRawSpan, _ cold: inout ColdReads
  ) throws(BackendError) -> Bool {
    guard image.readDescriptor != nil, cold.mayWait(), image.beginWaiting() else { return false }
    markInline(request)
    connection.server.workers.willSleep()
    defer {
      connection.server.workers.didWake()
      image.endWaiting()
      statistics.inline.clear()
    }
    try image.backend.read(into: &room, at: request.offset)
    cold.hasWaited(beside: connection.descriptor)
    return true
  }

  /// Queues a READ whose lock is held.
  /// - Returns: false when it has to take the slow lane.
  func beginRead(_ request: Request, _ token: LockToken, _ cold: inout ColdReads) -> Bool {
    guard let descriptor = image.readDescriptor, connection.server.hasRing(&cold) else { return false }
    if cold.inFlightCount == 0 {
      guard image.beginWaiting() else { return false }
      cold.begin(self)
    }
    let bytes = memoryBytes(request)
    if connection.server.charge(bytes, to: connection) == .granted {
      let read = ColdReads.Pending(
        request: request, token: token, chargedBytes: bytes, beganNanoseconds: statistics.receivedNanoseconds)
      if cold.queue(read, from: descriptor) {
        image.noteRingRead()
        return true
      }
      connection.release(bytes)
    }
    if cold.inFlightCount == 0 { connection.endReads(&cold) }
    return false
  }
}

// MARK: - On the way out

extension Connection {
  /// Sleeps until a read has ended, or, with `watchesSocket`, bytes of the client have come. Replies are put into the batch.
  /// - Returns: whether the client has something for us.
  func waitForReads(_ worker: inout Worker, watchesSocket: Bool) -> Bool {
    guard let transmission = worker.cold.transmission else { preconditionFailure("reads in flight belong to someone") }
    worker.cold.markOne()
    server.workers.willSleep()
    worker.cold.wait(socket: watchesSocket ? descriptor : nil)
    server.workers.didWake()
    let now = MonotonicClock.nanoseconds
    var isReadable = false
    var refund = 0
    while let event = worker.cold.next() {
      switch event {
      case .socket: isReadable = true
      case .read(let slot, let error):
        let read = worker.cold.take(slot)
        if let error {
          transmission.retry(read, error)
        } else {
          transmission.image.finish(read.token, mutated: false)
          answer(read, slot, worker.cold, &worker.batch, transmission.encoder, at: now)
          refund += read.chargedBytes
        }
        worker.cold.free(slot)
      }
    }
    release(refund)
    if worker.cold.inFlightCount == 0 { endReads(&worker.cold) }
    return isReadable
  }

  private func answer(
    _ read: ColdReads.Pending, _ slot: ReadRing.Slot, _ cold: borrowing ColdReads, _ batch: inout ReplyBatch,
    _ encoder: ReplyEncoder, at now: Int64
  ) {
    guard isAlive else { return }
    let length = Int(read.request.length)
    if batch.isLarge || !batch.hasRoom(encoder.readHeaderBytes + length) { flush(&batch) }
    var room = batch.room(at: encoder.readHeaderBytes, bytes: length)
    room.copy(cold.ring.bytes(of: slot))
    batch.commitRead(read.request, encoder: encoder, takenNanoseconds: now - read.beganNanoseconds)
  }

  /// Nothing is in flight on the ring any more.
  func endReads(_ cold: inout ColdReads) {
    let id = cold.id
    guard let transmission = cold.end() else { preconditionFailure("reads that end have begun") }
    transmission.image.endWaiting()
    end(id, of: transmission.served, chargedBytes: 0)
  }

  /// Before a lease ends: what it has in flight ends first, and is answered.
  func finishReads(_ worker: inout Worker) {
    while worker.cold.inFlightCount > 0 {
      _ = waitForReads(&worker, watchesSocket: false)
      flush(&worker.batch)
    }
    worker.cold.rest()
  }
}

extension Transmission {
  /// The kernel could not: the slow lane tries again, and knows how to report it. The lock stays held.
  fileprivate func retry(_ read: ColdReads.Pending, _ error: Errno) {
    connection.log(.debug, "io_uring read at \(read.request.offset): \(error)")
    var job = Job(
      transmission: self, request: read.request,
      id: connection.begin(of: served, Replies.Operation(read.request, beganNanoseconds: read.beganNanoseconds)),
      beganNanoseconds: read.beganNanoseconds, payload: nil, chargedBytes: read.chargedBytes)
    connection.setToken(read.token, of: job.id)
    job.token = read.token
    image.schedule(Parked(job))
  }
}

extension Server {
  /// The worker has a ring, or gets one now.
  func hasRing(_ cold: inout ColdReads) -> Bool {
    if cold.ring.isOpen { return true }
    guard case .ring(let slots) = coldReads, !ringIsRefused.load(ordering: .relaxed) else { return false }
    do throws(Errno) {
      try cold.open(slots: slots)
      return true
    } catch {
      // Once is enough: asking the kernel for each miss would cost more than the ring saves.
      if !ringIsRefused.exchange(true, ordering: .relaxed) {
        logger.info("io_uring: \(error); what is not in memory is read by threads")
      }
      return false
    }
  }
}
