// The calls of a backend, as data: what gates hold, faults hit and records list.

import BlockBackend
import SystemPackage

package struct BackendCall: Sendable, Equatable {
  package enum Kind: Sendable, CaseIterable {
    case read, readCached, write, trim, zero, sync, forgetCached, cache, extents
  }
  package var kind: Kind
  /// Bytes of the image; empty for `sync`.
  package var range: Range<UInt64>
  /// Of `zero`, else empty.
  package var options: ZeroOptions = []

  package init(_ kind: Kind, _ range: Range<UInt64> = 0..<0, _ options: ZeroOptions = []) {
    self.kind = kind
    self.range = range
    self.options = options
  }
}

/// A backend in front of another: `before` sees each call and may wait or throw, `after` sees it when it has succeeded.
package protocol WrappingBackend: BlockBackend {
  var inner: any BlockBackend { get }
  func before(_ call: BackendCall) throws(BackendError)
  func after(_ call: BackendCall)
}

extension WrappingBackend {
  package var geometry: Geometry { inner.geometry }
  package var capabilities: Capabilities { inner.capabilities }
  package func after(_ call: BackendCall) {}
  package func beginCopy(at path: FilePath) throws(CopyError) -> any ImageCopy { try inner.beginCopy(at: path) }

  private func around<Result>(
    _ call: BackendCall, _ body: () throws(BackendError) -> Result
  ) throws(BackendError) -> Result {
    try before(call)
    let result = try body()
    after(call)
    return result
  }

  package func read(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) {
    let call = BackendCall(.read, offset..<offset + UInt64(bytes.byteCount))
    try around(call) { () throws(BackendError) in try inner.read(into: &bytes, at: offset) }
  }

  package func readCached(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) -> Int {
    let call = BackendCall(.readCached, offset..<offset + UInt64(bytes.byteCount))
    return try around(call) { () throws(BackendError) in try inner.readCached(into: &bytes, at: offset) }
  }

  package func write(_ bytes: RawSpan, at offset: UInt64) throws(BackendError) {
    let call = BackendCall(.write, offset..<offset + UInt64(bytes.byteCount))
    try around(call) { () throws(BackendError) in try inner.write(bytes, at: offset) }
  }

  package func trim(_ range: Range<UInt64>) throws(BackendError) {
    try around(BackendCall(.trim, range)) { () throws(BackendError) in try inner.trim(range) }
  }

  package func zero(_ range: Range<UInt64>, _ options: ZeroOptions) throws(BackendError) {
    try around(BackendCall(.zero, range, options)) { () throws(BackendError) in try inner.zero(range, options) }
  }

  package func sync() throws(BackendError) {
    try around(BackendCall(.sync)) { () throws(BackendError) in try inner.sync() }
  }

  package func forgetCached() throws(BackendError) {
    try around(BackendCall(.forgetCached)) { () throws(BackendError) in try inner.forgetCached() }
  }

  package func cache(_ range: Range<UInt64>) throws(BackendError) {
    try around(BackendCall(.cache, range)) { () throws(BackendError) in try inner.cache(range) }
  }

  package func extents(of range: Range<UInt64>, extentsMax: Int) throws(BackendError) -> [Extent] {
    try around(BackendCall(.extents, range)) { () throws(BackendError) in
      try inner.extents(of: range, extentsMax: extentsMax)
    }
  }
}
