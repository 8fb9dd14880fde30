// Bytes in: into the worker's buffer or the payload that is on its way; asleep, spinning, or beside READs that wait for the disk.
// On the worker that holds the lease.

import BlockBackend
import EventLoops
import NBDProtocol
import NBDServerCore
import Syscalls
import SystemPackage

extension Connection {
  /// What looking at the socket brought.
  enum Received: Equatable {
    /// How many; 0 when another turn is due without any.
    case bytes(Int)
    case nothing, noMemory, owesMuch, end

    /// Bytes received.
    var count: Int { if case .bytes(let count) = self { count } else { 0 } }
  }

  /// With reads in flight, whatever comes first: bytes of the client, or of the disk for it. `nothing` when all reads have
  /// ended. Does not look at the socket when others wait for a worker: this one stays only for what it has begun.
  func receiveBesideReads(
    _ receiver: inout Receiver, _ worker: inout Worker, watchesSocket: Bool
  ) -> Received {
    while worker.cold.inFlightCount > 0 {
      let isReadable = waitForReads(&worker, watchesSocket: watchesSocket)
      guard flush(&worker.batch) else { return .owesMuch }
      if leaseHolderAwaitsRoom.load(ordering: .relaxed) {
        // The next turn waits for room, and for nothing beside it.
        finishReads(&worker)
        return .bytes(0)
      }
      if isReadable {
        let received = receive(&receiver, &worker, waits: false)
        guard case .nothing = received else { return received }
      }
    }
    return .nothing
  }

  /// Receives into the payload that is on its way, or else behind what is in the worker's buffer.
  func receive(_ receiver: inout Receiver, _ worker: inout Worker, waits: Bool) -> Received {
    if receiver.hasPayload {
      guard growPayload(&receiver) else { return .noMemory }
      var room = receiver.payloadRoom()
      let received = receive(into: &room, waits: waits)
      if received.count > 0 { receiver.commitPayload(received.count) }
      worker.expectsLargeWrite = receiver.payloadMissingBytes == 0
      return received
    }
    let roomBytes = worker.expectsLargeWrite ? RequestHeader.byteCount : Limits.receiveBytesMax
    let end = worker.filledBytes < roomBytes ? roomBytes : worker.input.count
    var room = worker.input.mutableBytes(in: worker.filledBytes..<end)
    let received = receive(into: &room, waits: waits)
    if received.count > 0 { worker.expectsLargeWrite = false }
    worker.filledBytes += received.count
    return received
  }

  /// Looks for bytes again and again, for as long as a sleep and a wake-up would cost.
  /// - Parameter expectsMuch: what comes may take long to copy.
  /// - Returns: also whether another thread needed this CPU meanwhile: the client, perhaps, which would have answered sooner had
  ///   the worker slept; nil when bytes were there already.
  func receiveSpinning(
    _ receiver: inout Receiver, _ worker: inout Worker, expectsMuch: Bool
  ) -> (Received, wasInterrupted: Bool?) {
    var received = receive(&receiver, &worker, waits: false)
    guard received == .nothing else { return (received, nil) }
    let preemptions = expectsMuch ? PosixThread.preemptionCount : 0
    var last = MonotonicClock.nanoseconds
    let end = last + SpinPolicy.nanosecondsMax
    var wasInterrupted = false
    repeat {
      received = receive(&receiver, &worker, waits: false)
      let now = MonotonicClock.nanoseconds
      wasInterrupted =
        wasInterrupted || !expectsMuch && SpinPolicy.wasInterrupted(after: now - last, receiving: received.count)
      last = now
    } while received == .nothing && last < end
    if expectsMuch { wasInterrupted = PosixThread.preemptionCount != preemptions }
    return (received, wasInterrupted)
  }

  private func receive(into room: inout MutableRawSpan, waits: Bool) -> Received {
    while true {
      do throws(Errno) {
        let count = try waits ? waitForBytes(into: &room) : Sockets.recv(descriptor, into: &room, flags: .dontWait)
        if count == 0 { return .end }
        noteProgress(count)
        return .bytes(count)
      } catch .interrupted {
        continue
      } catch .resourceTemporarilyUnavailable {
        return .nothing
      } catch {
        die("the client is gone: \(error)")
        return .end
      }
    }
  }

  /// Sleeps until bytes come, at most `leaseQuietMilliseconds`: the receive time-out of the socket.
  private func waitForBytes(into room: inout MutableRawSpan) throws(Errno) -> Int {
    if sendsFiles {
      // A non-blocking socket.
      guard try !awaitReady(.receive, waits: true).isEmpty else { throw .resourceTemporarilyUnavailable }
      return try Sockets.recv(descriptor, into: &room)
    }
    server.workers.willSleep()
    defer { server.workers.didWake() }
    return try Sockets.recv(descriptor, into: &room)
  }
}
