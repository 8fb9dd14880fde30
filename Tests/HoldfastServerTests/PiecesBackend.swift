// Makes a request of many system calls out of each: what the range lock has to hide.

import BlockBackend
import Glibc
import SystemPackage

/// Executes every call in pieces of 64 KiB, with a chance for other threads between.
final class PiecesBackend: BlockBackend {
  private static let pieceBytes: UInt64 = 64 * 1024
  private let inner: any BlockBackend

  init(_ inner: any BlockBackend) { self.inner = inner }

  var geometry: Geometry { inner.geometry }
  var capabilities: Capabilities { inner.capabilities }

  private func pieces(
    _ range: Range<UInt64>, _ body: (Range<UInt64>) throws(BackendError) -> Void
  ) throws(BackendError) {
    var lower = range.lowerBound
    while lower < range.upperBound {
      let upper = min(lower + Self.pieceBytes, range.upperBound)
      try body(lower..<upper)
      lower = upper
      sched_yield()
    }
  }

  func read(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) {
    try pieces(offset..<offset + UInt64(bytes.byteCount)) { range throws(BackendError) in
      var part = bytes._mutatingExtracting(Int(range.lowerBound - offset)..<Int(range.upperBound - offset))
      try inner.read(into: &part, at: range.lowerBound)
    }
  }

  /// Nothing is cached, so that every READ is one of several pieces.
  func readCached(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) -> Int { 0 }

  func write(_ bytes: RawSpan, at offset: UInt64) throws(BackendError) {
    try pieces(offset..<offset + UInt64(bytes.byteCount)) { range throws(BackendError) in
      try inner.write(
        bytes.extracting(Int(range.lowerBound - offset)..<Int(range.upperBound - offset)), at: range.lowerBound)
    }
  }

  func trim(_ range: Range<UInt64>) throws(BackendError) {
    try pieces(range) { piece throws(BackendError) in try inner.trim(piece) }
  }

  func zero(_ range: Range<UInt64>, _ options: ZeroOptions) throws(BackendError) {
    try pieces(range) { piece throws(BackendError) in try inner.zero(piece, options) }
  }

  func beginCopy(at path: FilePath) throws(CopyError) -> any ImageCopy { try inner.beginCopy(at: path) }
  func sync() throws(BackendError) { try inner.sync() }
  func cache(_ range: Range<UInt64>) throws(BackendError) { try inner.cache(range) }
  func extents(of range: Range<UInt64>, extentsMax: Int) throws(BackendError) -> [Extent] {
    try inner.extents(of: range, extentsMax: extentsMax)
  }
}
