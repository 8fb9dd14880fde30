// The calls that an image makes on its descriptors. In test builds a hook stands in front of each, so that tests can force
// what a kernel does rarely; release builds call straight through.

import BlockBackend
import Syscalls
import SystemPackage

/// One call that is about to be made.
package struct FileCall: Sendable, Equatable {
  package enum Kind: Sendable, CaseIterable {
    case read, readCached, write, punchHole, zeroRange, allocate, discard, sync, seekData, seekHole, mapExtents,
      countCached, willNeed, pause
  }
  package var kind: Kind
  /// Offset in the image, bytes.
  package var offset: UInt64
  /// Bytes asked for; 0 where the call has no length, the number of the attempt for `pause`.
  package var length: UInt64
}

/// What a hook makes of a call.
package enum FileCallAnswer: Sendable {
  case perform
  /// Only the first bytes: a short count.
  case performOnly(bytes: UInt64)
  case fail(Errno)
  /// Not performed, but this is its result (bytes done; a position for the seeks).
  case pretend(UInt64)
}

struct FileCalls: Sendable {
  #if GUARD_SWITCHES
  package typealias Hook = @Sendable (FileCall) -> FileCallAnswer
  var hook: Hook?
  #endif

  /// A hook stands in front of the calls.
  var areObserved: Bool {
    #if GUARD_SWITCHES
    hook != nil
    #else
    false
    #endif
  }

  /// Nothing between us and the kernel.
  static let kernel = FileCalls()

  @inline(__always)
  private func call(
    _ kind: FileCall.Kind, _ offset: UInt64, _ length: UInt64, _ perform: (UInt64) throws(Errno) -> UInt64
  ) throws(Errno) -> UInt64 {
    #if GUARD_SWITCHES
    switch hook?(FileCall(kind: kind, offset: offset, length: length)) ?? .perform {
    case .perform: break
    case .performOnly(let bytes): return try perform(min(bytes, length))
    case .fail(let errno): throw errno
    case .pretend(let result): return result
    }
    #endif
    return try perform(length)
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
