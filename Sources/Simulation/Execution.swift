// A request that holds its lock, one system call at a time. The plans are those of the daemon: where ImageFile makes the
// calls in a loop, the simulation lets other things happen between them.

import BlockBackend
import NBDProtocol
import NBDServerCore
import SystemPackage

/// The form of a request's system calls, which a seed varies.
struct CallShape {
  /// Longest read or write, bytes (the kernel: 2 GiB).
  var transferBytesMax: UInt64
  var medium: EffectPlan.Medium
  var guards: GuardSwitches
}

final class Execution {
  enum Next: Equatable {
    case call(FileCall)
    /// Without the guard of I1: positions the shared descriptor; the read behind it goes from wherever that is.
    case position(UInt64)
    case pause
    case done
  }

  private enum Work {
    case write(PieceProgress)
    case effect(EffectPlan)
    case read
    case readCached
    case status
    case cache
  }

  /// A noncopyable value behind a reference, so that it can be absent.
  private final class LayoutBox {
    var layout: ReadReplyLayout
    init(_ layout: consuming ReadReplyLayout) { self.layout = layout }
  }

  let request: Request
  private let shape: CallShape
  private var work: Work
  private var box: LayoutBox?
  private var pieces: PieceProgress?
  private var roomStart: UInt64 = 0
  private var found: FoundExtents?
  private var probe: RunProbe?
  private var isPositioned = false

  /// The payload of a WRITE.
  let payload: [UInt8]
  /// What an inline READ brought.
  private(set) var inlineData: [UInt8] = []
  /// The complete reply of a READ.
  var reply: PieceBuffer?
  /// The answer to BLOCK_STATUS.
  private(set) var extents: [Extent] = []

  /// - Throws: a request that is refused before its first call.
  init(
    _ request: Request, payload: [UInt8], encoder: ReplyEncoder, plan: ReadPlan, pool: PiecePool, shape: CallShape,
    fromCacheOnly: Bool
  ) throws(BackendError) {
    self.request = request
    self.payload = payload
    self.shape = shape
    switch request.command {
    case .write: work = .write(PieceProgress(of: request.range, pieceBytesMax: shape.transferBytesMax))
    case .trim:
      work = .effect(
        EffectPlan(trimming: request.range, on: shape.medium, isInward: shape.guards.stands(.trimInward)))
    case .writeZeroes:
      var options: ZeroOptions = []
      if request.flags.contains(.noHole) { options.insert(.noHole) }
      if request.flags.contains(.fastZero) { options.insert(.fast) }
      work = .effect(try EffectPlan(zeroing: request.range, options, on: shape.medium))
    case .read:
      work = fromCacheOnly ? .readCached : .read
      if !fromCacheOnly { box = LayoutBox(ReadReplyLayout(request, encoder: encoder, plan: plan, pool: pool)) }
    case .blockStatus: work = .status
    case .cache: work = .cache
    case .flush, .disconnect: preconditionFailure("these make no calls of their own")
    }
  }

  // MARK: What comes next

  func next(isRefused: (FileCall.Kind) -> Bool) throws(BackendError) -> Next {
    switch work {
    case .write(let progress):
      guard !progress.isDone else { return .done }
      return .call(FileCall(kind: .write, offset: progress.offset, length: progress.length))
    case .effect(var plan):
      let step = try plan.next(isRefused: isRefused)
      work = .effect(plan)
      switch step {
      case .call(let call): return .call(call)
      case .pause: return .pause
      case .done: return .done
      }
    case .readCached:
      guard inlineData.isEmpty else { return .done }
      return .call(FileCall(kind: .readCached, offset: request.offset, length: UInt64(request.length)))
    case .cache:
      guard pieces == nil else { return .done }
      return .call(FileCall(kind: .willNeed, offset: request.offset, length: UInt64(request.length)))
    case .status:
      if let call = try nextSeek(of: request.range, extentsMax: Limits.extentsPerReplyMax, isRefused) {
        return .call(call)
      }
      return .done
    case .read: return try nextOfRead(isRefused)
    }
  }

  private func nextOfRead(_ isRefused: (FileCall.Kind) -> Bool) throws(BackendError) -> Next {
    guard let box else { preconditionFailure("a READ lays out its reply") }
    while true {
      switch box.layout.need {
      case .nothing:
        reply = box.layout.take()
        return .done
      case .extents(let range, let extentsMax):
        if let call = try nextSeek(of: range, extentsMax: extentsMax, isRefused) { return .call(call) }
        box.layout.found(extents)
      case .data(let offset):
        if pieces == nil {
          roomStart = offset
          pieces = PieceProgress(
            of: offset..<offset + UInt64(box.layout.roomBytes), pieceBytesMax: shape.transferBytesMax)
        }
        guard let progress = pieces else { continue }
        guard progress.isDone else {
          if !shape.guards.stands(.ownProbeDescriptor) && !isPositioned {
            isPositioned = true
            return .position(progress.offset)
          }
          return .call(FileCall(kind: .read, offset: progress.offset, length: progress.length))
        }
        pieces = nil
        box.layout.filled(Int(progress.offset - roomStart))
      }
    }
  }

  /// Nil: `extents` has the answer.
  private func nextSeek(
    of range: Range<UInt64>, extentsMax: Int, _ isRefused: (FileCall.Kind) -> Bool
  ) throws(BackendError) -> FileCall? {
    var scan = found ?? FoundExtents(of: range, countMax: extentsMax)
    defer { found = scan }
    while scan.end < range.upperBound && !scan.isFull {
      if probe == nil { probe = RunProbe(of: scan.end..<range.upperBound, canSeek: !isRefused(.seekData)) }
      guard let step = probe?.step else { break }
      switch step {
      case .call(let call): return call
      case .askSize: probe?.sized(shape.medium.sizeBytes)
      case .failed(let error): throw error
      case .done(let extent):
        probe = nil
        guard let extent, scan.add(extent.lengthBytes, extent.kind) else {
          return try endSeek(scan, range)
        }
      }
    }
    return try endSeek(scan, range)
  }

  private func endSeek(_ scan: FoundExtents, _ range: Range<UInt64>) throws(BackendError) -> FileCall? {
    guard let result = scan.extents else { throw BackendError(.ioError, at: range.lowerBound) }
    extents = result
    return nil
  }

  // MARK: How it went

  /// Where the bytes of a call begin in the payload. Without the guard of I2, at the start again.
  func payloadOffset(of call: FileCall) -> Int {
    shape.guards.stands(.resumeAfterShortWrite) ? Int(call.offset - request.offset) : 0
  }

  /// The call did so much: bytes, or a position for a seek. `data` is what a read brought.
  func completed(_ result: UInt64, data: [UInt8]) throws(BackendError) {
    switch work {
    case .write(var progress):
      try progress.completed(result)
      work = .write(progress)
    case .effect(var plan):
      try plan.completed(result, taken: .zero)
      work = .effect(plan)
    case .readCached: inlineData = data
    case .cache: pieces = PieceProgress(of: 0..<0, pieceBytesMax: 1)
    case .read, .status:
      guard probe == nil else {
        probe?.found(result)
        return
      }
      guard var progress = pieces, let box else { preconditionFailure("only a call that was asked for ends") }
      isPositioned = false
      let start = Int(progress.offset - roomStart)
      try progress.completed(result)
      pieces = progress
      box.layout.place(data[...], at: start)
    }
  }

  /// The call failed.
  /// - Returns: what to remember as refused, and whether to wait before the next attempt.
  func failed(_ errno: Errno) throws(BackendError) -> (refused: FileCall.Kind?, pauses: Bool) {
    switch work {
    case .write(var progress):
      let attempt = try progress.failed(errno)
      work = .write(progress)
      return (nil, attempt != nil)
    case .effect(var plan):
      let kind = try plan.failed(errno)
      work = .effect(plan)
      return (kind, false)
    case .readCached:
      // The slow lane will meet the error as well, and knows how to report it.
      return (nil, false)
    case .cache:
      pieces = PieceProgress(of: 0..<0, pieceBytesMax: 1)
      return (nil, false)
    case .read, .status:
      isPositioned = false
      if probe != nil { return (probe?.failed(errno) == true ? .seekData : nil, false) }
      guard var progress = pieces else { preconditionFailure("only a call that was asked for ends") }
      let attempt = try progress.failed(errno)
      pieces = progress
      return (nil, attempt != nil)
    }
  }

  /// An inline READ found everything in memory.
  var isInlineReadComplete: Bool { inlineData.count == Int(request.length) }
}
