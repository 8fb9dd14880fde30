// The calls that an image makes on its descriptors. A hook may stand in front of each: tests force what a kernel does rarely,
// and operators inject faults on purpose. Without one it costs a branch.

import BlockBackend
import Syscalls
import SystemPackage

struct FileCalls: Sendable {
  package typealias Hook = @Sendable (FileCall) -> FileCallAnswer

  /// Nothing between us and the kernel.
  static let kernel = FileCalls()

  private let hook: Hook?
  /// A hook stands in front of the calls. Apart from it, so that the common case looks at a bit and counts no reference.
  let areObserved: Bool
  /// The hook is there to do harm: its answers may take their time, as a remote file system's do.
  let isFaulty: Bool

  init(hook: Hook? = nil, isFaulty: Bool = false) {
    self.hook = hook
    areObserved = hook != nil
    self.isFaulty = isFaulty
  }

  @inline(__always)
  private func call(
    _ kind: FileCall.Kind, _ offset: UInt64, _ length: UInt64, _ perform: (UInt64) throws(Errno) -> UInt64
  ) throws(Errno) -> UInt64 {
    guard areObserved, let hook else { return try perform(length) }
    var answer = hook(FileCall(kind: kind, offset: offset, length: length))
    while true {
      switch answer {
      case .perform: return try perform(length)
      case .performOnly(let bytes): return try perform(min(bytes, length))
      case .fail(let errno): throw errno
      case .pretend(let result): return result
      case .delay(let time, let after):
        sleep(for: time)
        answer = after
      }
    }
  }
}

extension FileCalls {
  func pread(_ fd: Int32, into bytes: inout MutableRawSpan, at offset: UInt64) throws(Errno) -> UInt64 {
    try call(.read, offset, UInt64(bytes.byteCount)) { length throws(Errno) in
      var piece = bytes._mutatingExtracting(0..<Int(length))
      return UInt64(try Files.pread(fd, into: &piece, at: offset))
    }
  }

  /// What a server without I1 does: position first, then read from wherever the offset is by then.
  func seekThenRead(_ fd: Int32, into bytes: inout MutableRawSpan, at offset: UInt64) throws(Errno) -> UInt64 {
    try Files.seek(fd, to: offset)
    return try call(.read, offset, UInt64(bytes.byteCount)) { length throws(Errno) in
      var piece = bytes._mutatingExtracting(0..<Int(length))
      return UInt64(try Files.read(fd, into: &piece))
    }
  }

  func preadNowait(_ fd: Int32, into bytes: inout MutableRawSpan, at offset: UInt64) throws(Errno) -> UInt64 {
    try call(.readCached, offset, UInt64(bytes.byteCount)) { length throws(Errno) in
      var piece = bytes._mutatingExtracting(0..<Int(length))
      return UInt64(try Files.preadNowait(fd, into: &piece, at: offset))
    }
  }

  func pwrite(_ fd: Int32, _ bytes: RawSpan, at offset: UInt64) throws(Errno) -> UInt64 {
    try call(.write, offset, UInt64(bytes.byteCount)) { length throws(Errno) in
      UInt64(try Files.pwrite(fd, bytes.extracting(0..<Int(length)), at: offset))
    }
  }

  /// Returns the bytes done: all of them, but for a hook.
  func fallocate(
    _ fd: Int32, _ mode: Files.FallocateMode, at offset: UInt64, length: UInt64
  ) throws(Errno) -> UInt64 {
    let kind: FileCall.Kind =
      switch mode {
      case .punchHole: .punchHole
      case .zeroRange: .zeroRange
      case .allocate: .allocate
      }
    return try call(kind, offset, length) { length throws(Errno) in
      try Files.fallocate(fd, mode, at: offset, length: length)
      return length
    }
  }

  func discard(_ fd: Int32, at offset: UInt64, length: UInt64) throws(Errno) -> UInt64 {
    try call(.discard, offset, length) { length throws(Errno) in
      try Files.discard(fd, at: offset, length: length)
      return length
    }
  }

  func fdatasync(_ fd: Int32) throws(Errno) {
    _ = try call(.sync, 0, 0) { _ throws(Errno) in
      try Files.fdatasync(fd)
      return 0
    }
  }

  func seekData(_ fd: Int32, from offset: UInt64) throws(Errno) -> UInt64 {
    try call(.seekData, offset, 0) { _ throws(Errno) in try Files.seekData(fd, from: offset) }
  }

  func seekHole(_ fd: Int32, from offset: UInt64) throws(Errno) -> UInt64 {
    try call(.seekHole, offset, 0) { _ throws(Errno) in try Files.seekHole(fd, from: offset) }
  }

  func cachedPages(_ fd: Int32, _ range: Range<UInt64>) throws(Errno) -> UInt64 {
    try call(.countCached, range.lowerBound, range.upperBound - range.lowerBound) { length throws(Errno) in
      try Files.cachedPages(fd, range.lowerBound..<range.lowerBound + length)
    }
  }

  func mapExtents(_ fd: Int32, _ range: Range<UInt64>, into map: inout MappedExtents) throws(Errno) {
    _ = try call(.mapExtents, range.lowerBound, range.upperBound - range.lowerBound) { length throws(Errno) in
      try map.load(fd, range.lowerBound..<range.lowerBound + length)
      return length
    }
  }

  func willNeed(_ fd: Int32, at offset: UInt64, length: UInt64) throws(Errno) {
    _ = try call(.willNeed, offset, length) { length throws(Errno) in
      try Files.willNeed(fd, at: offset, length: length)
      return length
    }
  }

  /// Waits before the next attempt: 1 ms, 2 ms, 4 ms, ... at most 100 ms.
  func pause(_ attempt: Int) {
    let wait = try? call(.pause, 0, UInt64(attempt)) { attempt throws(Errno) in min(1 << min(attempt - 1, 7), 100) }
    sleepMilliseconds(wait ?? 0)
  }
}
