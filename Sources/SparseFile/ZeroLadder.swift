// WRITE_ZEROES and TRIM: the cheapest call first, the next one when the kernel refuses it. Only "not supported" is a
// refusal; it is remembered per kind of call. Any other error is final for the request and turns nothing off (I8).
//
//                    may punch              no hole
//   file             PUNCH_HOLE             ZERO_RANGE
//                    ZERO_RANGE             PUNCH_HOLE then allocate   (not fast: tmpfs fills pages)
//                    write (not fast)       write (not fast)
//   block device     PUNCH_HOLE             ZERO_RANGE (not fast: the kernel may write zeroes itself)
//                    ZERO_RANGE (not fast)  write (not fast)
//                    write (not fast)

import BlockBackend
import Syscalls
import SystemPackage

private enum Rung {
  case punch, zeroRange, punchAndAllocate, write

  /// The calls that must not have been refused.
  var needs: [FileCall.Kind] {
    switch self {
    case .punch: [.punchHole]
    case .zeroRange: [.zeroRange]
    case .punchAndAllocate: [.punchHole, .allocate]
    case .write: []
    }
  }

  static func ladder(noHole: Bool, fast: Bool, isBlockDevice: Bool) -> [Rung] {
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
}

extension ImageFile {
  package func zero(_ range: Range<UInt64>, _ options: ZeroOptions) throws(BackendError) {
    let noHole = options.contains(.noHole)
    let unit = isBlockDevice ? trimUnitBytes : 1
    let middle = wholeUnits(in: range, unitBytes: unit)
    let anyWay = Rung.ladder(noHole: noHole, fast: false, isBlockDevice: isBlockDevice)
    var ladder = anyWay
    if options.contains(.fast) {
      ladder = Rung.ladder(noHole: noHole, fast: true, isBlockDevice: isBlockDevice)
      // Refused before anything has changed.
      guard !middle.isEmpty || range.isEmpty else { throw BackendError(.notSupported, at: range.lowerBound) }
    }
    // The middle first: when it is refused, the edges have not been touched.
    try inSlices(middle) { offset, length throws(Errno) in
      // Behind the first slice there is no way back to "unchanged".
      let rungs = offset == middle.lowerBound ? ladder : anyWay
      return try zeroOnce(at: offset, length: length, rungs)
    }
    // A block device takes whole blocks only; what hangs over is written. No longer fast, but less than two blocks.
    for edge in [range.lowerBound..<middle.lowerBound, middle.upperBound..<range.upperBound] {
      try inSlices(edge) { offset, length throws(Errno) in try writeZeroes(at: offset, length: length) }
    }
  }

  package func trim(_ range: Range<UInt64>) throws(BackendError) {
    var whole = wholeUnits(in: range, unitBytes: trimUnitBytes)
    if !guards.stands(.trimInward) {
      let mask = trimUnitBytes - 1
      whole = (range.lowerBound & ~mask)..<min((range.upperBound + mask) & ~mask, geometry.sizeBytes)
    }
    try inSlices(whole) { offset, length throws(Errno) in try trimOnce(at: offset, length: length) }
  }

  /// `range` rounded inward. The end of the image counts as the end of a unit: nothing is behind it.
  private func wholeUnits(in range: Range<UInt64>, unitBytes: UInt64) -> Range<UInt64> {
    let mask = unitBytes - 1
    let (up, overflow) = range.lowerBound.addingReportingOverflow(mask)
    let lower = overflow ? range.upperBound : min(up & ~mask, range.upperBound)
    let upper = range.upperBound == geometry.sizeBytes ? range.upperBound : range.upperBound & ~mask
    return lower..<max(lower, upper)
  }

  /// Does `range` in slices of about half a millisecond. `step` gets one slice and returns how many bytes of it it did.
  private func inSlices(
    _ range: Range<UInt64>, _ step: (_ offset: UInt64, _ length: UInt64) throws(Errno) -> UInt64
  ) throws(BackendError) {
    var slice = SliceSize()
    let clock = ContinuousClock()
    try forEachPiece(of: range, pieceBytesMax: .max, pause: { calls.pause($0) }) { offset, length throws(Errno) in
      // Readers of the file that waited for the last slice go first: they may need this CPU.
      if offset != range.lowerBound { yieldThread() }
      let end = slice.end(from: offset, limit: offset + length)
      let start = clock.now
      let done = try step(offset, end - offset)
      slice.adapt(to: clock.now - start)
      return done
    }
  }

  /// The first rung that is not refused.
  private func zeroOnce(at offset: UInt64, length: UInt64, _ ladder: [Rung]) throws(Errno) -> UInt64 {
    for rung in ladder where !rung.needs.contains(where: { refused.remembers($0) }) {
      switch rung {
      case .punch:
        if let done = try unlessRefused(.punchHole, at: offset, length: length) { return done }
      case .zeroRange:
        if let done = try unlessRefused(.zeroRange, at: offset, length: length) { return done }
      case .punchAndAllocate:
        guard let punched = try unlessRefused(.punchHole, at: offset, length: length) else { break }
        guard punched > 0 else { return 0 }
        if let done = try unlessRefused(.allocate, at: offset, length: punched) { return done }
      case .write:
        return try writeZeroes(at: offset, length: length)
      }
    }
    throw .notSupported
  }

  private func trimOnce(at offset: UInt64, length: UInt64) throws(Errno) -> UInt64 {
    if let done = try unlessRefused(.punchHole, at: offset, length: length) { return done }
    if isBlockDevice, let done = try unlessRefused(.discard, at: offset, length: length) { return done }
    return length  // TRIM is a hint.
  }

  /// The bytes done, or nil when the kernel refuses this kind of call, now or before.
  private func unlessRefused(_ kind: FileCall.Kind, at offset: UInt64, length: UInt64) throws(Errno) -> UInt64? {
    guard !refused.remembers(kind) else { return nil }
    let fd = file.descriptor
    do throws(Errno) {
      switch kind {
      case .punchHole: return try calls.fallocate(fd, .punchHole, at: offset, length: length)
      case .zeroRange: return try calls.fallocate(fd, .zeroRange, at: offset, length: length)
      case .allocate: return try calls.fallocate(fd, .allocate, at: offset, length: length)
      case .discard: return try calls.discard(fd, at: offset, length: length)
      case .read, .readCached, .write, .sync, .seekData, .seekHole, .mapExtents, .countCached, .willNeed, .pause:
        preconditionFailure("not a call that the ladder makes")
      }
    } catch {
      guard isRefusal(error) else { throw error }
      refused.note(kind)
      return nil
    }
  }

  private func writeZeroes(at offset: UInt64, length: UInt64) throws(Errno) -> UInt64 {
    let count = min(length, UInt64(zeroes.count))
    return try calls.pwrite(file.descriptor, zeroes.bytes.extracting(0..<Int(count)), at: offset)
  }
}

private let zeroes = IOBuffer(zeroes: 1 << 20)
