// The end of a request: its reply, as in Job.swift of HoldfastServer.

import BlockBackend
import NBDProtocol
import NBDServerCore
import RangeLocks

extension SimulatedConnection {
  // MARK: The end of a request

  func ended(_ job: SimulatedJob, _ outcome: SimulatedJob.Outcome) {
    if job.isInline { endedInline(job, outcome) } else { endedElsewhere(job, outcome) }
  }

  func endedInline(_ job: SimulatedJob, _ outcome: SimulatedJob.Outcome) {
    inlineJob = nil
    let request = job.request
    switch outcome {
    case .succeeded where request.flags.contains(.fua): sync(request)
    case .succeeded: appendSuccess(request)
    case .answered:
      let data = job.execution?.inlineData ?? []
      append(64) { encoder, span in
        encoder.encodeReadHeader(
          cookie: request.cookie, offset: request.offset, dataBytes: request.length, into: &span, at: 0)
      }
      batch += data
    case .notCached:
      guard let token = job.token else { preconditionFailure("a READ that goes on holds its lock") }
      if !leave(request, payload: [], token: token) {
        // It stays where it is: the header has been consumed, so it goes back in front.
        input = server.header(of: request) + input
        return end(.pause)
      }
    case .failed(let error, _):
      append(error, request, inSync: false)
    case .dropped, .lent: break
    }
    afterRequest()
  }

  func endedElsewhere(_ job: SimulatedJob, _ outcome: SimulatedJob.Outcome) {
    var reply = PieceBuffer(pool: server.pool, capacityBytes: 0)
    var tail: Replies.FileTail?
    let request = job.request
    switch outcome {
    case .dropped:
      replies.end(job.replyID)
      release(job.chargedBytes)
      wake()
      return closeIfDone()
    case .notCached: preconditionFailure("only a worker looks whether a READ is cached")
    case .succeeded:
      reply = encoded(encoder.successBytes) { encoder, span in
        encoder.encodeSuccess(cookie: request.cookie, into: &span, at: 0)
      }
    case .lent:
      reply = encoded(64) { encoder, span in
        encoder.encodeReadHeader(
          cookie: request.cookie, offset: request.offset, dataBytes: request.length, into: &span, at: 0)
      }
      tail = Replies.FileTail(file: Loan(), range: request.range)
    case .answered:
      if request.command == .blockStatus {
        reply = statusReply(job)
      } else if let made = job.execution?.reply.take() {
        reply = made
      }
    case .failed(let error, let inSync):
      let wireError = server.wireError(error, of: request, inSync: inSync)
      let offset = error.offset.flatMap { request.range.contains($0) ? $0 : nil }
      reply = encoded(ReplyEncoder.errorBytesMax) { encoder, span in
        encoder.encodeError(
          cookie: request.cookie, command: request.command, error: wireError, text: "failed", offset: offset,
          into: &span, at: 0)
      }
    }
    let surplus = max(0, job.chargedBytes - reply.capacityBytes - Limits.overheadBytes)
    let charged = job.chargedBytes - surplus
    release(surplus)
    replies.end(job.replyID)
    let (refund, mustSend) = replies.append(Replies.Outgoing(reply, fileTail: tail, chargedBytes: charged))
    release(refund)
    if mustSend { isSending = true }
    wake()
    closeIfDone()
  }

  func statusReply(_ job: SimulatedJob) -> PieceBuffer {
    guard let contextID = session?.allocationContextID else {
      preconditionFailure("validation demands a context")
    }
    var status = StatusDescriptors(
      request: job.request, blockBytesMin: session?.export.blockBytesMin ?? 1, countMax: Limits.extentsPerReplyMax)
    for extent in job.execution?.extents ?? [] {
      let kind: AllocationStatus =
        switch extent.kind {
        case .data: []
        case .hole: [.hole, .zero]
        case .zero: .zero
        }
      status.append(lengthBytes: extent.lengthBytes, status: kind)
    }
    status.finish()
    let (encoder, cookie) = (encoder, job.request.cookie)
    var reply = PieceBuffer(
      pool: server.pool, capacityBytes: ReplyEncoder.blockStatusBytes(descriptors: status.descriptors.count))
    var room = reply.free(bytesMax: .max)
    let count = encoder.encodeBlockStatus(
      cookie: cookie, contextID: contextID, descriptors: status.descriptors.span, into: &room, at: 0)
    reply.commit(count)
    return reply
  }

  func encoded(_ bytes: Int, _ encode: (ReplyEncoder, inout MutableRawSpan) -> Int) -> PieceBuffer {
    var reply = PieceBuffer(pool: server.pool, capacityBytes: bytes)
    let encoder = encoder
    reply.appendHeader { (span: inout MutableRawSpan) in encode(encoder, &span) }
    return reply
  }

  func append(_ bytesMax: Int, _ encode: (ReplyEncoder, inout MutableRawSpan) -> Int) {
    var room = scratch.mutableBytes
    let count = encode(encoder, &room)
    batch += [UInt8](copying: scratch.bytes.extracting(first: count))
  }

  func appendSuccess(_ request: Request) {
    append(64) { encoder, span in encoder.encodeSuccess(cookie: request.cookie, into: &span, at: 0) }
  }

  func append(_ error: BackendError, _ request: Request, inSync: Bool) {
    let wireError = server.wireError(error, of: request, inSync: inSync)
    let offset = error.offset.flatMap { request.range.contains($0) ? $0 : nil }
    append(ReplyEncoder.errorBytesMax) { encoder, span in
      encoder.encodeError(
        cookie: request.cookie, command: request.command, error: wireError, text: "failed", offset: offset,
        into: &span, at: 0)
    }
  }
}
