// Memory that is never cached, and whose cold reads are served from a pipe: they are in flight until the test feeds them, in
// portions that it chooses.

import BlockBackend
import Glibc
import TestBackends

final class PipeBackend: WrappingBackend {
  let inner: any BlockBackend
  private let readEnd: Int32
  private let writeEnd: Int32
  /// Reads with the write end: what the kernel refuses.
  private let isWrongWay: Bool

  init(_ inner: any BlockBackend, isWrongWay: Bool = false) {
    self.inner = inner
    self.isWrongWay = isWrongWay
    var ends: [Int32] = [-1, -1]
    precondition(unsafe pipe(&ends) == 0, "a test has descriptors")
    (readEnd, writeEnd) = (ends[0], ends[1])
  }

  deinit {
    close(readEnd)
    close(writeEnd)
  }

  var readDescriptor: Int32? { isWrongWay ? writeEnd : readEnd }

  func before(_ call: BackendCall) throws(BackendError) {}

  func readCached(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) -> Int { 0 }

  /// For the reads in flight. At most what a pipe holds, 64 KiB.
  func feed(_ bytes: [UInt8]) {
    let written = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(writeEnd, $0.baseAddress, $0.count) }
    precondition(written == bytes.count, "a pipe holds 64 KiB")
  }
}

/// Memory that is never cached, and whose cold reads are served from a file of the test.
final class OtherFileBackend: WrappingBackend {
  let inner: any BlockBackend
  let readDescriptor: Int32?

  /// - Parameter descriptor: open as long as the backend is used.
  init(_ inner: any BlockBackend, readsFrom descriptor: Int32) {
    self.inner = inner
    readDescriptor = descriptor
  }

  func before(_ call: BackendCall) throws(BackendError) {}

  func readCached(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) -> Int { 0 }
}
