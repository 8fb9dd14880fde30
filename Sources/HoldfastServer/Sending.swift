// Bytes out: one sender at a time, whoever comes first; the others only append. Never blocks: what the socket does not take
// is queued, and the write source goes on with it.

import BlockBackend
import EventLoops
import NBDServerCore
import Synchronization
import Syscalls
import SystemPackage

extension Connection {
  /// Sends a batch, in front of nothing and behind everything that is queued.
  /// - Returns: false when more is queued now than a client may leave unread.
  func send(batch: RawSpan) -> Bool {
    if replies.withLock({ $0.mayBeginSending() }) {
      send(batch)
    } else {
      enqueue(batch, atFront: false)
    }
    return !mustPause
  }

  /// As the sender: sends `bytes`, queues what the socket does not take, then sends what was queued meanwhile.
  func send(_ bytes: RawSpan) {
    var rest = bytes
    while rest.byteCount > 0 {
      do throws(Errno) {
        let sent = try Sockets.send(descriptor, rest, flags: .dontWait)
        rest = rest.extracting(droppingFirst: sent)
        noteProgress(sent)
      } catch .interrupted {
        continue
      } catch .resourceTemporarilyUnavailable {
        enqueue(rest, atFront: true)
        return block()
      } catch {
        die("the client is gone: \(error)")
        break
      }
    }
    drain()
  }

  /// As the sender: sends what is queued.
  func drain() {
    while let next = replies.withLock({ $0.nextToSend() }) {
      guard sendAll(next) else { return }
    }
    noteProgress()
    wake()
    closeIfDone()
  }

  /// - Returns: false when the socket is full.
  private func sendAll(_ outgoing: consuming Replies.Outgoing) -> Bool {
    while outgoing.restBytes > 0 {
      do throws(Errno) {
        let sent = try Sockets.send(
          descriptor, outgoing.buffer.bytes(from: outgoing.sentBytes), flags: .dontWait)
        outgoing.sentBytes += sent
        noteProgress(sent)
      } catch .interrupted {
        continue
      } catch .resourceTemporarilyUnavailable {
        let handoff = Handoff(outgoing)
        let refund = replies.withLock { $0.putBack(handoff.take()) }
        release(refund)
        block()
        return false
      } catch {
        die("the client is gone: \(error)")
        break
      }
    }
    #if GUARD_SWITCHES
    if let tail = outgoing.fileTail { sendfile(tail) }
    #endif
    release(outgoing.chargedBytes)
    return true
  }

  #if GUARD_SWITCHES
  /// Waits for the client, as the sender: what a server does that sends pages of the file itself.
  private func sendfile(_ tail: Replies.FileTail) {
    var offset = tail.range.lowerBound
    while offset < tail.range.upperBound {
      do throws(Errno) {
        offset += UInt64(
          try Sockets.sendfile(descriptor, from: tail.descriptor, at: offset, length: tail.range.upperBound - offset))
      } catch .interrupted, .resourceTemporarilyUnavailable {
        continue
      } catch {
        return die("the client is gone: \(error)")
      }
    }
  }
  #endif

  private func enqueue(_ bytes: RawSpan, atFront: Bool) {
    var copy = PieceBuffer(pool: pool, capacityBytes: bytes.byteCount)
    copy.append(bytes)
    let charged = bytes.byteCount + Limits.overheadBytes
    server.chargeExisting(charged, to: self)
    let outgoing = Handoff(Replies.Outgoing(copy, chargedBytes: charged))
    let (refund, mustSend) = replies.withLock { replies in
      atFront ? (replies.putBack(outgoing.take()), false) : replies.append(outgoing.take())
    }
    release(refund)
    if mustSend { drain() }
  }

  /// As the sender: the socket is full, so the write source goes on.
  private func block() {
    if replies.withLock({ $0.becomesBlocked() }) { channel.awaitWritable() } else { closeIfDone() }
  }

  func becomeWritable() {
    if replies.withLock({ $0.becomesWritable() }) { drain() }
  }
}
