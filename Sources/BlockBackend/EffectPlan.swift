// WRITE_ZEROES and TRIM of a file, as a plan: which system call comes next. The cheapest call first, the next one when the
// kernel refuses it. Only "not supported" is a refusal; it is remembered per kind of call. Any other error is final for the
// request and turns nothing off (I8).
//
//                    may punch              no hole
//   file             PUNCH_HOLE             ZERO_RANGE
//                    ZERO_RANGE             PUNCH_HOLE then allocate   (not fast: tmpfs fills pages)
//                    write (not fast)       write (not fast)
//   block device     PUNCH_HOLE             ZERO_RANGE (not fast: the kernel may write zeroes itself)
//                    ZERO_RANGE (not fast)  write (not fast)
//                    write (not fast)

import SystemPackage

private enum Rung {
  case punch, zeroRange, punchAndAllocate, write, discard
  /// TRIM is a hint: done without a call.
  case leave

  /// The calls that must not have been refused, in the order in which they are made.
  var needs: [FileCall.Kind] {
    switch self {
    case .punch: [.punchHole]
    case .zeroRange: [.zeroRange]
    case .punchAndAllocate: [.punchHole, .allocate]
    case .discard: [.discard]
    case .write, .leave: []
    }
  }

  static func zeroes(noHole: Bool, fast: Bool, isBlockDevice: Bool) -> [Rung] {
    switch (noHole, fast, isBlockDevice) {
    case (false, false, _): [.punch, .zeroRange, .write]
    case (false, true, false): [.punch, .zeroRange]
    case (false, true, true): [.punch]
    case (true, false, false): [.zeroRange, .punchAndAllocate, .write]
    case (true, true, false): [.zeroRange]
    case (true, false, true): [.zeroRange, .write]
    case (true, true, true): []
    }
  }

  static func trim(isBlockDevice: Bool) -> [Rung] { isBlockDevice ? [.punch, .discard, .leave] : [.punch, .leave] }
}

/// One WRITE_ZEROES or TRIM on its way. Pure: ask `next`, make the call, tell how it went with `completed` or `failed`.
package struct EffectPlan: Sendable {
  package enum Step: Sendable, Equatable {
    /// A `write` writes zeroes.
    case call(FileCall)
    /// Wait as long as this number of attempts deserves, then ask again.
    case pause(attempt: Int)
    case done
  }

  /// What the plan has to know of the file.
  package struct Medium: Sendable {
    package var sizeBytes: UInt64
    /// What TRIM is rounded inward to, bytes; a power of two.
    package var trimUnitBytes: UInt64
    package var isBlockDevice: Bool
    /// How a long range is cut.
    package var slice: SliceSize

    package init(sizeBytes: UInt64, trimUnitBytes: UInt64, isBlockDevice: Bool, slice: SliceSize = SliceSize()) {
      self.sizeBytes = sizeBytes
      self.trimUnitBytes = trimUnitBytes
      self.isBlockDevice = isBlockDevice
      self.slice = slice
    }
  }

  /// Zeroes written with one call.
  package static let writeBytesMax: UInt64 = 1 << 20

  private let freshSlice: SliceSize
  /// What follows when the present part is done: the edges of a block device, which are written.
  private var edges: [Range<UInt64>] = []
  private var ladder: [Rung]
  /// The ladder behind the first slice, from where there is no way back to "unchanged".
  private var laterLadder: [Rung]
  private var progress: PieceProgress
  private let start: UInt64
  private var partStart: UInt64

  private var slice: SliceSize
  /// What the calls of this slice have taken so far.
  private var taken = Duration.zero
  /// The rung that is tried, from the top for each slice and each repetition.
  private var rungIndex = 0
  /// PUNCH_HOLE has done so much of a slice that still has to be allocated.
  private var punchedBytes: UInt64?
  private var pauseAttempt: Int?
  private var pending: FileCall?

  /// Makes all of `range` read as zeroes.
  /// - Throws: ENOTSUP when `.fast` cannot be kept; nothing has been changed then.
  package init(zeroing range: Range<UInt64>, _ options: ZeroOptions, on medium: Medium) throws(BackendError) {
    let unit = medium.isBlockDevice ? medium.trimUnitBytes : 1
    let middle = wholeUnits(in: range, unitBytes: unit, sizeBytes: medium.sizeBytes)
    let noHole = options.contains(.noHole)
    let anyWay = Rung.zeroes(noHole: noHole, fast: false, isBlockDevice: medium.isBlockDevice)
    var ladder = anyWay
    if options.contains(.fast) {
      ladder = Rung.zeroes(noHole: noHole, fast: true, isBlockDevice: medium.isBlockDevice)
      guard !middle.isEmpty || range.isEmpty else { throw BackendError(.notSupported, at: range.lowerBound) }
    }
    self.init(middle, ladder: ladder, laterLadder: anyWay, slice: medium.slice)
    // The middle first: when it is refused, the edges have not been touched. A block device takes whole blocks only; what
    // hangs over is written. No longer fast, but less than two blocks.
    for edge in [middle.upperBound..<range.upperBound, range.lowerBound..<middle.lowerBound] where !edge.isEmpty {
      edges.append(edge)
    }
  }

  /// Gives the storage of whole blocks inside `range` back.
  /// - Parameter isInward: false takes the guard `trimInward` out.
  package init(trimming range: Range<UInt64>, on medium: Medium, isInward: Bool = true) {
    var whole = wholeUnits(in: range, unitBytes: medium.trimUnitBytes, sizeBytes: medium.sizeBytes)
    if !isInward {
      let mask = medium.trimUnitBytes - 1
      whole = (range.lowerBound & ~mask)..<min((range.upperBound + mask) & ~mask, medium.sizeBytes)
    }
    let ladder = Rung.trim(isBlockDevice: medium.isBlockDevice)
    self.init(whole, ladder: ladder, laterLadder: ladder, slice: medium.slice)
  }

  private init(_ range: Range<UInt64>, ladder: [Rung], laterLadder: [Rung], slice: SliceSize) {
    self.ladder = ladder
    self.laterLadder = laterLadder
    self.slice = slice
    freshSlice = slice
    progress = PieceProgress(of: range, pieceBytesMax: .max)
    start = range.lowerBound
    partStart = start
  }

  /// Nothing of the present part has been done yet.
  package var isAtStart: Bool { progress.offset == partStart }

  /// What to do now.
  /// - Parameter isRefused: whether the kernel has refused this kind of call before.
  /// - Throws: ENOTSUP when every rung is refused.
  package mutating func next(isRefused: (FileCall.Kind) -> Bool) throws(BackendError) -> Step {
    if let attempt = pauseAttempt.take() { return .pause(attempt: attempt) }
    while true {
      guard !progress.isDone else {
        guard let edge = edges.popLast() else { return .done }
        begin(edge)
        continue
      }
      let offset = progress.offset
      let length = slice.end(from: offset, limit: offset + progress.length) - offset
      let rungs = offset == start ? ladder : laterLadder
      guard rungIndex < rungs.count else { throw BackendError(.notSupported, at: offset) }
      let rung = rungs[rungIndex]
      guard !rung.needs.contains(where: isRefused) else {
        nextRung()
        continue
      }
      let call: FileCall
      switch rung {
      case .leave:
        try progress.completed(progress.length)
        continue
      case .write: call = FileCall(kind: .write, offset: offset, length: min(length, Self.writeBytesMax))
      case .punch, .zeroRange, .discard: call = FileCall(kind: rung.needs[0], offset: offset, length: length)
      case .punchAndAllocate:
        call = FileCall(
          kind: punchedBytes == nil ? .punchHole : .allocate, offset: offset, length: punchedBytes ?? length)
      }
      pending = call
      return .call(call)
    }
  }

  /// The call did so many bytes, from its offset on.
  package mutating func completed(_ bytes: UInt64, taken time: Duration) throws(BackendError) {
    let call = takePending()
    taken += time
    let rungs = call.offset == start ? ladder : laterLadder
    if rungs[rungIndex] == .punchAndAllocate, call.kind == .punchHole, bytes > 0 {
      punchedBytes = bytes
      return
    }
    try progress.completed(bytes)
    slice.adapt(to: taken)
    beginSlice()
  }

  /// The call failed.
  /// - Returns: the kind of call that the kernel does not know, to be remembered.
  /// - Throws: what ends the request.
  package mutating func failed(_ errno: Errno) throws(BackendError) -> FileCall.Kind? {
    let call = takePending()
    if call.kind != .write, errno.isRefusal {
      nextRung()
      return call.kind
    }
    beginSlice()
    pauseAttempt = try progress.failed(errno)
    return nil
  }

  private mutating func takePending() -> FileCall {
    guard let call = pending.take() else { preconditionFailure("a call that was asked for ends once") }
    return call
  }

  private mutating func nextRung() {
    rungIndex += 1
    punchedBytes = nil
  }

  private mutating func beginSlice() {
    rungIndex = 0
    punchedBytes = nil
    taken = .zero
  }

  private mutating func begin(_ edge: Range<UInt64>) {
    progress = PieceProgress(of: edge, pieceBytesMax: .max)
    partStart = edge.lowerBound
    slice = freshSlice
    ladder = [.write]
    laterLadder = ladder
    beginSlice()
  }
}

/// `range` rounded inward. The end of the image counts as the end of a unit: nothing is behind it.
private func wholeUnits(in range: Range<UInt64>, unitBytes: UInt64, sizeBytes: UInt64) -> Range<UInt64> {
  let mask = unitBytes - 1
  let (up, overflow) = range.lowerBound.addingReportingOverflow(mask)
  let lower = overflow ? range.upperBound : min(up & ~mask, range.upperBound)
  let upper = range.upperBound == sizeBytes ? range.upperBound : range.upperBound & ~mask
  return lower..<max(lower, upper)
}

extension Errno {
  /// The kernel or the file system does not know the call; asking again is of no use.
  package var isRefusal: Bool {
    self == .notSupported || self == .noFunction || self == .inappropriateIOCTLForDevice
  }
}
