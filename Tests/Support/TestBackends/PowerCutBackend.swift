// A disk that can lose power: what was not synced may or may not be there afterwards, sector by sector.

import BlockBackend
import Locking
import SystemPackage

/// A medium and a volatile cache in front of it. Reads see the cache. Between two syncs the cache may have written any
/// version of a sector back at any time, so a power cut leaves each unsynced sector with any of its versions since the last
/// sync, the durable one included.
///
///     durable  | A | B | C |      write 0..<2    cache  | D | E |   |      write 1    | D | F |   |
///     after a power cut: sector 0 is A or D, sector 1 is B, E or F, sector 2 is C
package final class PowerCutBackend: BlockBackend {
  package static let sectorBytes: UInt64 = 512

  package let geometry: Geometry
  package let capabilities: Capabilities
  private let state: Locked<State>

  private struct State {
    var durable: SparseBytes
    var seen: SparseBytes
    /// Unsynced versions of a sector, oldest first.
    var versions: [UInt64: [[UInt8]]] = [:]
    var syncFailures: [Errno] = []
    var hasPower = true
  }

  package init(geometry: Geometry, capabilities: Capabilities = .memory) {
    self.geometry = geometry
    self.capabilities = capabilities
    let empty = SparseBytes(pageBytes: Self.sectorBytes)
    state = Locked(State(durable: empty, seen: empty))
  }

  package convenience init(sizeBytes: UInt64) { self.init(geometry: Geometry(sizeBytes: sizeBytes)) }

  // MARK: For the test

  /// The next syncs fail with these errors, one each. As Linux does it, the dirty data of a failed sync is dropped from the
  /// books: it is still read until power goes, but no later sync will make it durable.
  package func failSyncs(with errors: Errno...) { state.withLock { $0.syncFailures += errors } }

  /// Power goes. From now on every call fails with EIO.
  /// - Parameter seed: picks the version of each unsynced sector.
  /// - Returns: what is found when power is back.
  package func cutPower(seed: UInt64) -> MemoryBackend { cutPower(choosing: chooser(seed)) }

  /// Power goes, and nothing that was not synced survives.
  package func cutPowerLosingAll() -> MemoryBackend { cutPower { _, _ in 0 } }

  /// Unsynced sectors, by number.
  package var dirtySectors: [UInt64] { state.withLock { $0.versions.keys.sorted() } }

  /// - Parameter choose: of a sector and the number of its versions, durable one included, picks one; 0 is the durable one.
  package func cutPower(choosing choose: (_ sector: UInt64, _ versions: Int) -> Int) -> MemoryBackend {
    state.withLock { state in
      state.hasPower = false
      var found = state.durable
      for sector in state.versions.keys.sorted() {
        let versions = state.versions[sector, default: []]
        let choice = choose(sector, versions.count + 1)
        guard choice > 0 else { continue }
        let version = versions[choice - 1]
        found.write(version.span.bytes, at: sector * Self.sectorBytes)
      }
      return MemoryBackend(geometry: geometry, capabilities: capabilities, content: found)
    }
  }

  // MARK: For the caller

  package func read(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) {
    try powered(at: offset) { $0.seen.read(into: &bytes, at: offset) }
  }

  package func readCached(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) -> Int {
    try read(into: &bytes, at: offset)
    return bytes.byteCount
  }

  package func write(_ bytes: RawSpan, at offset: UInt64) throws(BackendError) {
    try change(offset..<offset + UInt64(bytes.byteCount)) { $0.write(bytes, at: offset) }
  }

  package func trim(_ range: Range<UInt64>) throws(BackendError) {
    let sector = Self.sectorBytes
    let lower = (range.lowerBound + sector - 1) / sector * sector
    let upper = range.upperBound == geometry.sizeBytes ? range.upperBound : range.upperBound / sector * sector
    if lower < upper { try change(lower..<upper) { $0.zero(lower..<upper) } }
  }

  package func zero(_ range: Range<UInt64>, _ options: ZeroOptions) throws(BackendError) {
    try change(range) { $0.zero(range, keepingStorage: options.contains(.noHole)) }
  }

  package func sync() throws(BackendError) {
    let failure: Errno? = try powered(at: nil) { state in
      defer { state.versions.removeAll() }
      guard state.syncFailures.isEmpty else { return state.syncFailures.removeFirst() }
      for (sector, versions) in state.versions {
        guard let last = versions.last else { continue }
        state.durable.write(last.span.bytes, at: sector * Self.sectorBytes)
      }
      return nil
    }
    if let failure { throw BackendError(failure) }
  }

  package func cache(_ range: Range<UInt64>) throws(BackendError) {}

  package func extents(of range: Range<UInt64>, extentsMax: Int) throws(BackendError) -> [Extent] {
    try powered(at: range.lowerBound) { $0.seen.extents(of: range, extentsMax: extentsMax) }
  }

  private func powered<Result: Sendable>(
    at offset: UInt64?, _ body: (inout State) -> Result
  ) throws(BackendError) -> Result {
    try state.withLock { state throws(BackendError) in
      guard state.hasPower else { throw BackendError(.ioError, at: offset) }
      return body(&state)
    }
  }

  /// Changes what is seen, and keeps the new version of every sector that `range` touches.
  private func change(_ range: Range<UInt64>, _ body: (inout SparseBytes) -> Void) throws(BackendError) {
    guard !range.isEmpty else { return }
    try powered(at: range.lowerBound) { state in
      body(&state.seen)
      for sector in range.lowerBound / Self.sectorBytes...(range.upperBound - 1) / Self.sectorBytes {
        state.versions[sector, default: []].append(
          state.seen.array(at: sector * Self.sectorBytes, Int(Self.sectorBytes)))
      }
    }
  }
}

extension SparseBytes {
  /// `count` bytes from `offset`.
  package func array(at offset: UInt64, _ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    var raw = span.mutableBytes
    read(into: &raw, at: offset)
    return bytes
  }
}

private func chooser(_ seed: UInt64) -> (UInt64, Int) -> Int {
  { sector, versions in
    var random = SplitMix(seed: seed ^ (sector &* 0x9e37_79b9_7f4a_7c15))
    return Int.random(in: 0..<versions, using: &random)
  }
}
