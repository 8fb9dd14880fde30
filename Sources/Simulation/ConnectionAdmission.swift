// From a validated request to its execution, as in Admission.swift of HoldfastServer.

import BlockBackend
import NBDProtocol
import NBDServerCore
import RangeLocks

extension SimulatedConnection {
  // MARK: Admission

  func admit(_ request: Request, payload: [UInt8]) -> Bool {
    if request.command == .flush { return admitFlush(request) }
    guard request.length > 0 else {
      if request.flags.contains(.fua) && request.command.rule.changesData { return admitFlush(request) }
      appendSuccess(request)
      return true
    }
    guard isInline(request), server.scenario.isLocal, !server.dice.chance(100) else {
      return leave(request, payload: payload, token: nil)
    }
    switch server.image.admit(request) {
    case .waiting(let token): return leave(request, payload: payload, token: token, isWaiting: true)
    case .granted(let token):
      let plan = readPlan(request)
      if request.command == .read && plan.findsHoles {
        return leave(request, payload: [], token: token)
      }
      let job = server.image.makeJob(
        request, connection: id, isInline: true, payload: payload, encoder: encoder, plan: plan)
      job.token = token
      inlineJob = job
      server.image.start(job)
      return true
    }
  }

  func admitLarge(_ request: Request) {
    let payload = receiver.takePayload()
    var bytes: [UInt8] = []
    while bytes.count < payload.count { bytes += [UInt8](copying: payload.bytes(from: bytes.count)) }
    let job = makeJob(request, payload: bytes, chargedBytes: payload.capacityBytes)
    submit(job)
  }

  func readPlan(_ request: Request) -> ReadPlan { server.scenario.readPlan(request, encoder.mode) }

  func isInline(_ request: Request) -> Bool {
    switch request.command {
    case .read: true
    case .write: Int(request.length) <= Limits.inlineBytesMax
    case .trim, .writeZeroes: Int(request.length) <= server.scenario.inlineEffectBytesMax
    case .cache, .blockStatus, .flush, .disconnect: false
    }
  }

  func admitFlush(_ request: Request) -> Bool {
    if server.image.isDurable { appendSuccess(request) } else { sync(request) }
    return true
  }

  func makeJob(_ request: Request, payload: [UInt8], chargedBytes: Int) -> SimulatedJob {
    let job = server.image.makeJob(
      request, connection: id, isInline: false, payload: payload, encoder: encoder, plan: readPlan(request))
    job.replyID = replies.begin()
    job.chargedBytes = chargedBytes
    return job
  }

  func sync(_ request: Request) {
    charge(existing: Limits.overheadBytes)
    server.image.syncThenReply(makeJob(request, payload: [], chargedBytes: Limits.overheadBytes))
  }

  /// The request leaves the worker with what it needs.
  func leave(_ request: Request, payload: [UInt8], token: RangeLockTable.Token?, isWaiting: Bool = false)
    -> Bool
  {
    let bytes = memoryBytes(request)
    guard charge(bytes) else {
      if let token {
        if isWaiting { server.image.abandon(token) } else { server.image.finish(token, mutated: false) }
      }
      return false
    }
    let job = makeJob(request, payload: payload, chargedBytes: bytes)
    guard let token else {
      submit(job)
      return true
    }
    replies.setToken(token, of: job.replyID)
    server.image.place(job, token, isWaiting: isWaiting)
    return true
  }

  func submit(_ job: SimulatedJob) {
    switch server.image.admit(job.request) {
    case .granted(let token):
      replies.setToken(token, of: job.replyID)
      server.image.place(job, token, isWaiting: false)
    case .waiting(let token):
      replies.setToken(token, of: job.replyID)
      server.image.place(job, token, isWaiting: true)
    }
  }

  func memoryBytes(_ request: Request) -> Int {
    switch request.command {
    case .read: Limits.overheadBytes + readReplyBytesMax(request, encoder: encoder)
    case .write: Limits.overheadBytes + Int(request.length)
    case .blockStatus:
      Limits.overheadBytes + ReplyEncoder.blockStatusBytes(descriptors: server.scenario.blocks)
    case .trim, .writeZeroes, .cache, .flush, .disconnect: Limits.overheadBytes
    }
  }
}
