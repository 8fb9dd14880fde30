// File system calls as Swift functions, one per call and named after it. EINTR is the caller's business (the splitter
// repeats the rest); everything else that C does with errno ends here.

import CLinux
import Glibc
import SystemPackage

/// Calls on files. Offsets and lengths are bytes. Each may block for as long as the file system likes.
///
/// A call that gets an `OpenFile` keeps it open. The data path gets the bare descriptor: there the caller keeps the file,
/// in a property of its own (a local that is not used again may be closed before the call is made).
package enum Files {
  /// Most bytes that Linux moves in one call (MAX_RW_COUNT); longer ones return short.
  package static let transferBytesMax: UInt64 = 0x7fff_f000

  @inline(__always)
  static func check(_ result: Int64) throws(Errno) -> Int64 {
    guard result >= 0 else { throw Errno(rawValue: CInt(truncatingIfNeeded: -result)) }
    return result
  }
}

// MARK: - Data by explicit offset (I1)

extension Files {
  /// `pread(2)`: fewer bytes than asked are possible, 0 is the end of the file.
  package static func pread(_ fd: Int32, into bytes: inout MutableRawSpan, at offset: UInt64) throws(Errno) -> Int {
    let start = try signed(offset)
    let result = unsafe bytes.withUnsafeMutableBytes { unsafe hf_pread(fd, $0.baseAddress, $0.count, start) }
    return Int(try check(result))
  }

  /// `preadv2(2)` with RWF_NOWAIT: only what is in memory. EAGAIN when nothing is, EOPNOTSUPP where it cannot tell.
  package static func preadNowait(
    _ fd: Int32, into bytes: inout MutableRawSpan, at offset: UInt64
  ) throws(Errno) -> Int {
    let start = try signed(offset)
    let result = unsafe bytes.withUnsafeMutableBytes { unsafe hf_pread_nowait(fd, $0.baseAddress, $0.count, start) }
    return Int(try check(result))
  }

  /// `pwrite(2)`: fewer bytes than asked are possible.
  package static func pwrite(_ fd: Int32, _ bytes: RawSpan, at offset: UInt64) throws(Errno) -> Int {
    let start = try signed(offset)
    let result = unsafe bytes.withUnsafeBytes { unsafe hf_pwrite(fd, $0.baseAddress, $0.count, start) }
    return Int(try check(result))
  }

  package static func fdatasync(_ fd: Int32) throws(Errno) { _ = try check(hf_fdatasync(fd)) }

  package static func fsync(_ file: OpenFile) throws(Errno) { _ = try check(hf_fsync(file.descriptor)) }

  /// `posix_fadvise(2)` with POSIX_FADV_WILLNEED. Linux starts at most one read-ahead window per call.
  package static func willNeed(_ fd: Int32, at offset: UInt64, length: UInt64) throws(Errno) {
    _ = try check(hf_will_need(fd, try signed(offset), try signed(length)))
  }

  /// `posix_fadvise(2)` with POSIX_FADV_DONTNEED for the whole file: what is in memory and not dirty goes.
  package static func dontNeed(_ fd: Int32) throws(Errno) { _ = try check(hf_dont_need(fd)) }

  /// `cachestat(2)`: how many pages of `range` are in the page cache. Linux 6.5; EPERM when the file is somebody else's.
  package static func cachedPages(_ fd: Int32, _ range: Range<UInt64>) throws(Errno) -> UInt64 {
    UInt64(try check(hf_cached_pages(fd, range.lowerBound, range.upperBound - range.lowerBound)))
  }

  /// `read(2)` at the file offset. For the test that takes I1's guard out.
  package static func read(_ fd: Int32, into bytes: inout MutableRawSpan) throws(Errno) -> Int {
    let result = unsafe bytes.withUnsafeMutableBytes { unsafe hf_read(fd, $0.baseAddress, $0.count) }
    return Int(try check(result))
  }

  /// Up to `count` bytes from `offset`, fewer at the end of the file. For looking at a file, not for serving it.
  package static func bytes(of file: OpenFile, at offset: UInt64, count: Int) throws(Errno) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    let done = try pread(file.descriptor, into: &raw, at: offset)
    return Array(bytes[..<done])
  }

  private static func signed(_ value: UInt64) throws(Errno) -> Int64 {
    guard let value = Int64(exactly: value) else { throw .overflow }
    return value
  }
}

// MARK: - Layout

extension Files {
  /// What `fallocate(2)` shall do; none of them changes the size.
  package enum FallocateMode: Sendable {
    /// FALLOC_FL_PUNCH_HOLE: reads as zeroes, storage given back.
    case punchHole
    /// FALLOC_FL_ZERO_RANGE: reads as zeroes, storage present.
    case zeroRange
    /// Storage present, contents kept.
    case allocate

    fileprivate var bits: CInt {
      switch self {
      case .punchHole: CInt(HF_PUNCH_HOLE)
      case .zeroRange: CInt(HF_ZERO_RANGE)
      case .allocate: CInt(HF_ALLOCATE)
      }
    }
  }

  package static func fallocate(
    _ fd: Int32, _ mode: FallocateMode, at offset: UInt64, length: UInt64
  ) throws(Errno) {
    _ = try check(hf_fallocate(fd, mode.bits, try signed(offset), try signed(length)))
  }

  /// `lseek(2)` with SEEK_DATA: first byte of data at or behind `offset`. ENXIO: none. Moves the file offset.
  package static func seekData(_ fd: Int32, from offset: UInt64) throws(Errno) -> UInt64 {
    UInt64(try check(hf_seek_data(fd, try signed(offset))))
  }

  /// `lseek(2)` with SEEK_HOLE: first byte of a hole at or behind `offset`; the end of the file counts as one.
  package static func seekHole(_ fd: Int32, from offset: UInt64) throws(Errno) -> UInt64 {
    UInt64(try check(hf_seek_hole(fd, try signed(offset))))
  }

  /// `lseek(2)` with SEEK_SET. For the test that takes I1's guard out.
  package static func seek(_ fd: Int32, to offset: UInt64) throws(Errno) {
    _ = try check(hf_seek_set(fd, try signed(offset)))
  }

  package static func ftruncate(_ file: OpenFile, sizeBytes: UInt64) throws(Errno) {
    guard let size = Int64(exactly: sizeBytes) else { throw .fileTooLarge }
    _ = try check(hf_ftruncate(file.descriptor, size))
  }
}
