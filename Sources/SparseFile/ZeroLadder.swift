// WRITE_ZEROES and TRIM: makes the calls that the plan names (BlockBackend/EffectPlan.swift).

import BlockBackend
import Syscalls
import SystemPackage

extension ImageFile {
  package func zero(_ range: Range<UInt64>, _ options: ZeroOptions) throws(BackendError) {
    try perform(EffectPlan(zeroing: range, options, on: medium), for: .zero)
  }

  package func trim(_ range: Range<UInt64>) throws(BackendError) {
    try perform(EffectPlan(trimming: range, on: medium, isInward: guards.stands(.trimInward)), for: .trim)
  }

  private var medium: EffectPlan.Medium {
    EffectPlan.Medium(
      sizeBytes: geometry.sizeBytes, trimUnitBytes: trimUnitBytes, isBlockDevice: isBlockDevice,
      slice: capabilities.contains(.local) && !isBlockDevice
        ? .ofLocalFile(unitBytes: trimUnitBytes) : .ofDevice(unitBytes: trimUnitBytes))
  }

  private func perform(_ start: EffectPlan, for purpose: EffectCounters.Purpose) throws(BackendError) {
    var plan = start
    let clock = ContinuousClock()
    while true {
      switch try plan.next(isRefused: { refused.remembers($0) }) {
      case .done: return
      case .pause(let attempt): calls.pause(attempt)
      case .call(let call):
        // Readers of the file that waited for the last slice go first: they may need this CPU.
        if !plan.isAtStart { yieldThread() }
        let start = clock.now
        let done: UInt64
        do throws(Errno) {
          done = try perform(call)
        } catch {
          if let kind = try plan.failed(error) { refused.note(kind) }
          continue
        }
        effectCounters.note(call.kind, done, for: purpose)
        try plan.completed(done, taken: clock.now - start)
      }
    }
  }

  /// - Returns: the bytes done.
  private func perform(_ call: FileCall) throws(Errno) -> UInt64 {
    let (fd, offset, length) = (file.descriptor, call.offset, call.length)
    switch call.kind {
    case .punchHole: return try calls.fallocate(fd, .punchHole, at: offset, length: length)
    case .zeroRange: return try calls.fallocate(fd, .zeroRange, at: offset, length: length)
    case .allocate: return try calls.fallocate(fd, .allocate, at: offset, length: length)
    case .discard: return try calls.discard(fd, at: offset, length: length)
    case .write: return try calls.pwrite(fd, zeroes.bytes.extracting(0..<Int(length)), at: offset)
    case .read, .readCached, .sync, .seekData, .seekHole, .mapExtents, .countCached, .willNeed, .pause:
      preconditionFailure("not a call that the plan names")
    }
  }
}

private let zeroes = IOBuffer(zeroes: Int(EffectPlan.writeBytesMax))
