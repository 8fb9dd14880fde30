// Bytes out: one sender at a time, whoever comes first; the others only append. Never blocks: what the socket does not take
// is queued. The write source goes on with it, or the lease holder if it was the one that found the socket full.

import BlockBackend
import EventLoops
import NBDServerCore
import Syscalls
import SystemPackage

/// Who sends, and so who waits for room when the socket is full.
enum Sender {
  /// The worker that serves the connection: it would wait for bytes anyway, and waits for room as well.
  case leaseHolder
  /// Everybody else leaves it to the write source.
  case other
}

extension Connection {
  /// As the lease holder: sends a batch and the data that its last reply may lack, in front of nothing and behind everything
  /// that is queued.
  /// - Returns: false when more is queued now than a client may leave unread.
  func send(batch: RawSpan, tail: Replies.FileTail? = nil) -> Bool {
    if replies.withLock({ $0.mayBeginSending() }) {
      send(batch, tail, as: .leaseHolder)
    } else {
      enqueue(batch, tail, atFront: false, as: .leaseHolder)
    }
    return !mustPause
  }

  /// As the sender: sends `bytes` and `tail`, queues what the socket does not take, then sends what was queued meanwhile.
  func send(_ bytes: RawSpan, _ tail: Replies.FileTail? = nil, as sender: Sender) {
    var rest = bytes
    while rest.byteCount > 0 {
      do throws(Errno) {
        let sent = try Sockets.send(descriptor, rest, flags: .dontWait)
        rest = rest.extracting(droppingFirst: sent)
        noteProgress(sent)
      } catch .interrupted {
        continue
      } catch .resourceTemporarilyUnavailable {
        if roomComes(for: sender) { continue }
        enqueue(rest, tail, atFront: true, as: sender)
        return block(sender)
      } catch {
        die("the client is gone: \(error)")
        return drain(as: sender)
      }
    }
    if let tail, let unsent = sendFile(tail, as: sender) {
      enqueue(RawSpan(), unsent, atFront: true, as: sender)
      return block(sender)
    }
    drain(as: sender)
  }

  /// As the sender: sends what is queued.
  func drain(as sender: Sender) {
    while let next = replies.withLock({ $0.nextToSend() }) {
      guard sendAll(next, as: sender) else { return }
    }
    noteProgress()
    wake()
    closeIfDone()
  }

  /// - Returns: false when the socket is full.
  private func sendAll(_ outgoing: consuming Replies.Outgoing, as sender: Sender) -> Bool {
    while outgoing.restBytes > 0 {
      do throws(Errno) {
        let sent = try Sockets.send(
          descriptor, outgoing.buffer.bytes(from: outgoing.sentBytes), flags: .dontWait)
        outgoing.sentBytes += sent
        noteProgress(sent)
      } catch .interrupted {
        continue
      } catch .resourceTemporarilyUnavailable {
        if roomComes(for: sender) { continue }
        putBack(outgoing)
        block(sender)
        return false
      } catch {
        die("the client is gone: \(error)")
        release(outgoing.chargedBytes)
        return true
      }
    }
    if let tail = outgoing.fileTail, let unsent = sendFile(tail, as: sender) {
      outgoing.fileTail = unsent
      putBack(outgoing)
      block(sender)
      return false
    }
    release(outgoing.chargedBytes)
    return true
  }

  private func putBack(_ outgoing: consuming Replies.Outgoing) {
    let handoff = Handoff(outgoing)
    let refund = replies.withLock { $0.putBack(handoff.take()) }
    release(refund)
  }

  /// As the sender: sends from the file. Its header has gone, so whatever goes wrong now can only be told by closing.
  /// - Returns: what is left when the socket is full.
  private func sendFile(_ tail: Replies.FileTail, as sender: Sender) -> Replies.FileTail? {
    var range = tail.range
    while !range.isEmpty && isAlive {
      do throws(Errno) {
        let sent = try Sockets.sendfile(
          descriptor, from: tail.file.descriptor, at: range.lowerBound, length: range.upperBound - range.lowerBound)
        guard sent > 0 else {
          die("the image ended inside a reply, at byte \(range.lowerBound)")
          return nil
        }
        range = range.lowerBound + UInt64(sent)..<range.upperBound
        noteProgress(sent)
      } catch .interrupted {
        continue
      } catch .resourceTemporarilyUnavailable {
        if roomComes(for: sender) { continue }
        return Replies.FileTail(file: tail.file, range: range)
      } catch {
        die("the data of a reply cannot be sent: \(error)")
        return nil
      }
    }
    return nil
  }

  private func enqueue(_ bytes: RawSpan, _ tail: Replies.FileTail?, atFront: Bool, as sender: Sender) {
    var copy = PieceBuffer(pool: pool, capacityBytes: bytes.byteCount)
    copy.append(bytes)
    let charged = bytes.byteCount + Limits.overheadBytes
    server.chargeExisting(charged, to: self)
    let outgoing = Handoff(Replies.Outgoing(copy, fileTail: tail, chargedBytes: charged))
    let (refund, mustSend) = replies.withLock { replies in
      atFront ? (replies.putBack(outgoing.take()), false) : replies.append(outgoing.take())
    }
    release(refund)
    if mustSend { drain(as: sender) }
  }

  // MARK: A full socket

  /// The lease holder waits for room on the spot before it gives up: what it is sending stays where it is, in the processor's
  /// cache, and nothing is queued. A client that takes nothing for `leaseQuietMilliseconds` is not waited for.
  private func roomComes(for sender: Sender) -> Bool {
    // Whoever deals with newcomers tells all others that their sockets are ready: it must not wait for one client.
    guard sender == .leaseHolder, !isNewcomer, !server.workers.itemsAreWaiting else { return false }
    do throws(Errno) {
      return try !awaitReady(.send, waits: true).isEmpty && isAlive
    } catch {
      return error == .interrupted
    }
  }

  /// As the sender: the socket is full.
  private func block(_ sender: Sender) {
    guard replies.withLock({ $0.becomesBlocked() }) else { return closeIfDone() }
    switch sender {
    case .leaseHolder: leaseHolderAwaitsRoom.store(true, ordering: .relaxed)
    case .other: channel.awaitWritable()
    }
  }

  func becomeWritable() {
    if replies.withLock({ $0.becomesWritable() }) { drain(as: .other) }
  }

  /// For the lease holder that found the socket full: what it waits for comes, or not.
  enum Room { case made, bytesCame, none }

  /// Waits for room, or also for bytes, for as long as it would wait for bytes; goes on sending when there is room.
  func awaitRoom(orBytes: Bool, waits: Bool) -> Room {
    let ready: Sockets.Readiness
    do throws(Errno) {
      ready = try awaitReady(orBytes ? [.send, .receive] : .send, waits: waits)
    } catch {
      return .none
    }
    if ready.contains(.send) {
      leaseHolderAwaitsRoom.store(false, ordering: .relaxed)
      if replies.withLock({ $0.becomesWritable() }) { drain(as: .leaseHolder) }
      return .made
    }
    return ready.contains(.receive) ? .bytesCame : .none
  }

  /// Sleeps until the socket is ready, at most `leaseQuietMilliseconds`.
  func awaitReady(_ wanted: Sockets.Readiness, waits: Bool) throws(Errno) -> Sockets.Readiness {
    guard waits else { return try Sockets.wait(descriptor, for: wanted, milliseconds: 0) }
    server.workers.willSleep()
    defer { server.workers.didWake() }
    return try Sockets.wait(descriptor, for: wanted, milliseconds: Limits.leaseQuietMilliseconds)
  }

  /// The lease ends: the write source goes on from here.
  func leaveRoomToSource() {
    if leaseHolderAwaitsRoom.exchange(false, ordering: .relaxed) { channel.awaitWritable() }
  }
}
