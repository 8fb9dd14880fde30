// An image in the memory of this process: the simplest backend that is right, for tests and for trying things out.

import Locking
import Synchronization
import SystemPackage

/// Sparse memory. Each call is atomic against all others; nothing survives the process, so `sync` has nothing to do.
package final class MemoryBackend: BlockBackend {
  package let identity: ImageIdentity = .nextMemory()
  package let geometry: Geometry
  package let capabilities: Capabilities
  private let content: Locked<SparseBytes>

  package init(
    geometry: Geometry, capabilities: Capabilities = .memory, content: SparseBytes = SparseBytes()
  ) {
    self.geometry = geometry
    self.capabilities = capabilities
    self.content = Locked(content)
  }

  package convenience init(sizeBytes: UInt64) { self.init(geometry: Geometry(sizeBytes: sizeBytes)) }

  /// A copy of everything.
  package var snapshot: SparseBytes { content.withLock { $0 } }

  package func read(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) {
    content.withLock { $0.read(into: &bytes, at: offset) }
  }

  package func readCached(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) -> Int {
    content.withLock { $0.read(into: &bytes, at: offset) }
    return bytes.byteCount
  }

  package func write(_ bytes: RawSpan, at offset: UInt64) throws(BackendError) {
    content.withLock { $0.write(bytes, at: offset) }
  }

  /// Whole pages only; the end of the image ends a page.
  package func trim(_ range: Range<UInt64>) throws(BackendError) {
    content.withLock { content in
      let page = content.pageBytes
      let lower = (range.lowerBound + page - 1) / page * page
      let upper = range.upperBound == geometry.sizeBytes ? range.upperBound : range.upperBound / page * page
      if lower < upper { content.zero(lower..<upper) }
    }
  }

  package func zero(_ range: Range<UInt64>, _ options: ZeroOptions) throws(BackendError) {
    content.withLock { $0.zero(range, keepingStorage: options.contains(.noHole)) }
  }

  package func sync() throws(BackendError) {}

  package func cache(_ range: Range<UInt64>) throws(BackendError) {}

  package func extents(of range: Range<UInt64>, extentsMax: Int) throws(BackendError) -> [Extent] {
    content.withLock { $0.extents(of: range, extentsMax: extentsMax) }
  }
}

extension Capabilities {
  /// Everything.
  package static let memory: Capabilities = [.writable, .trim, .fastZero, .cache, .extents, .local]
}
