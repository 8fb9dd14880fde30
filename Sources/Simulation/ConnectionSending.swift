// Bytes out, as in Sending.swift of HoldfastServer: one sender at a time, one `send` per event.

import BlockBackend
import NBDProtocol
import NBDServerCore
import RangeLocks

extension SimulatedConnection {
  // MARK: Bytes out

  func flush() {
    guard !batch.isEmpty else { return }
    let bytes = exchange(&batch, with: [])
    beginSending(bytes, fromWorker: true)
  }

  func flushNegotiation() {
    batch += exchange(&negotiation, with: [])
    flush()
  }

  func beginSending(_ bytes: [UInt8], fromWorker: Bool) {
    if replies.mayBeginSending() {
      isSending = true
      workerSends = fromWorker
      sendingBatch = bytes
    } else {
      enqueue(bytes, atFront: false)
    }
  }

  func enqueue(_ bytes: [UInt8], atFront: Bool) {
    var copy = PieceBuffer(pool: server.pool, capacityBytes: bytes.count)
    copy.append(bytes.rawBytes)
    let charged = bytes.count + Limits.overheadBytes
    charge(existing: charged)
    let outgoing = Replies.Outgoing(copy, chargedBytes: charged)
    if atFront {
      release(replies.putBack(outgoing))
    } else {
      let (refund, mustSend) = replies.append(outgoing)
      release(refund)
      if mustSend { isSending = true }
    }
  }

  /// The sender goes on: one `send`.
  func send() {
    let room = server.scenario.socketBytes - toClient.count
    if hasHangUp { die("the client is gone") }
    if !isAlive {
      // As after EPIPE: what is in hand is thrown away.
      sendingBatch = []
      if let outgoing = exchange(&sending, with: nil) { release(outgoing.chargedBytes) }
      return takeNext()
    }
    if !sendingBatch.isEmpty {
      guard room > 0 else {
        enqueue(exchange(&sendingBatch, with: []), atFront: true)
        return block()
      }
      let count = min(room, sendingBatch.count, server.sendBytes())
      toClient.append(sendingBatch[0..<count])
      sendingBatch.removeFirst(count)
      if sendingBatch.isEmpty { takeNext() }
      return
    }
    guard var outgoing = exchange(&sending, with: nil) else { return takeNext() }
    guard room > 0 else {
      release(replies.putBack(outgoing))
      return block()
    }
    let bytes = [UInt8](copying: outgoing.buffer.bytes(from: outgoing.sentBytes))
    let count = min(room, bytes.count, server.sendBytes())
    toClient.append(bytes[0..<count])
    outgoing.sentBytes += count
    if outgoing.restBytes == 0, let tail = outgoing.fileTail { outgoing.fileTail = sendFile(tail) }
    if outgoing.restBytes > 0 || outgoing.fileTail != nil {
      sending = consume outgoing
    } else {
      release(outgoing.chargedBytes)
      takeNext()
    }
  }

  /// - Returns: what is left.
  func sendFile(_ tail: Replies.FileTail) -> Replies.FileTail? {
    let room = server.scenario.socketBytes - toClient.count
    let count = min(room, tail.range.count, server.sendBytes())
    guard count > 0 else { return tail }
    let start = Int(tail.range.lowerBound)
    toClient.append(server.image.disk.seen[start..<start + count])
    guard count < tail.range.count else { return nil }
    return Replies.FileTail(file: tail.file, range: UInt64(start + count)..<tail.range.upperBound)
  }

  func takeNext() {
    if let next = replies.nextToSend() {
      sending = consume next
      return
    }
    isSending = false
    workerSends = false
    wake()
    closeIfDone()
  }

  func block() {
    isSending = false
    workerSends = false
    if !replies.becomesBlocked() { closeIfDone() }
    awaitsWritable = isAlive
  }

  var mayBecomeWritable: Bool {
    awaitsWritable && (toClient.count < server.scenario.socketBytes || hasHangUp || !isAlive)
  }

  func becomeWritable() {
    awaitsWritable = false
    if replies.becomesWritable() { isSending = true }
  }
}
