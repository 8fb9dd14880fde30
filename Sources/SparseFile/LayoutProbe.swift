// Where a file has data. SEEK_DATA and SEEK_HOLE decide (I3): what they leave open is data. Where FIEMAP is known to agree
// with them, it is asked first (MappedLayout.swift).

import BlockBackend
import Locking
import Syscalls
import SystemPackage

/// A descriptor for probes only, with a file offset that nobody else knows (I1).
struct LayoutProbe: ~Copyable, Sendable {
  // The lock covers the file offset of the descriptor, which every seek moves.
  private let file: Locked<OpenFile>
  let calls: FileCalls
  let refused = RefusedCalls()
  /// For calls that do not use the file offset.
  let descriptor: Int32
  let mapsExtents: Bool

  init(_ file: OpenFile, calls: FileCalls, mapsExtents: Bool = false) {
    self.file = Locked(file)
    self.calls = calls
    descriptor = file.descriptor
    self.mapsExtents = mapsExtents
  }

  /// See `BlockBackend.extents`.
  func extents(of range: Range<UInt64>, extentsMax: Int) throws(BackendError) -> [Extent] {
    precondition(extentsMax > 0, "at least one extent has to fit")
    guard !range.isEmpty else { return [] }
    var found = FoundExtents(of: range, countMax: extentsMax)
    if mapsExtents && extentsMax >= LayoutProbe.mappedExtentsMin {
      try addMapped(to: &found)
    } else {
      try addSought(to: &found, upTo: range.upperBound)
    }
    // Behind the present end of the file: said when somebody asks from there on.
    guard let extents = found.extents else { throw BackendError(.ioError, at: range.lowerBound) }
    return extents
  }

  /// Few extents are found as quickly by seeking.
  static let mappedExtentsMin = 16

  /// The runs from where `found` ends to `end`, by SEEK_DATA and SEEK_HOLE.
  /// - Returns: false at the end of the file, or when no more fit.
  @discardableResult
  func addSought(to found: inout FoundExtents, upTo end: UInt64) throws(BackendError) -> Bool {
    while found.end < end {
      // Locked for a run, not for the whole query: a long one must not hold up READs of other ranges.
      let rest = found.end..<end
      let next = try file.withLock { file throws(BackendError) in try run(in: rest, of: file) }
      guard let next, found.add(next.lengthBytes, next.kind) else { return false }
    }
    return true
  }

  /// SEEK_DATA; nil when there is no data behind `offset`.
  func nextData(from offset: UInt64) throws(Errno) -> UInt64? {
    do throws(Errno) {
      return try file.withLock { file throws(Errno) in try calls.seekData(file.descriptor, from: offset) }
    } catch .noSuchAddressOrDevice {
      return nil
    }
  }

  func currentSize() throws(BackendError) -> UInt64 {
    try file.withLock { file throws(BackendError) in try currentSize(of: file) }
  }

  /// The run that `rest` starts with, inside `rest`; nil when `rest` starts beyond the end of the file.
  ///
  ///     rest   |........hole........|====data====|
  ///            ^ offset             ^ SEEK_DATA  ^ SEEK_HOLE from there
  ///
  /// The two seeks are two calls, and write-back may change the map between them even while no client may write. So any
  /// answer is possible, and one that makes no sense means data.
  private func run(in rest: Range<UInt64>, of file: OpenFile) throws(BackendError) -> Extent? {
    let offset = rest.lowerBound
    let allData = Extent(lengthBytes: rest.upperBound - offset, kind: .data)
    guard !refused.remembers(.seekData) else { return allData }
    do throws(Errno) {
      let data = try calls.seekData(file.descriptor, from: offset)
      if data > offset { return Extent(lengthBytes: min(data, rest.upperBound) - offset, kind: .hole) }
      guard data == offset, let hole = try? calls.seekHole(file.descriptor, from: offset), hole > offset else {
        return allData
      }
      return Extent(lengthBytes: min(hole, rest.upperBound) - offset, kind: .data)
    } catch .interrupted {
      return allData
    } catch .noSuchAddressOrDevice {
      // ENXIO: no data from `offset` on. That is a hole only below the size that the file has now.
      let size = try currentSize(of: file)
      guard offset < size else { return nil }
      return Extent(lengthBytes: min(size, rest.upperBound) - offset, kind: .hole)
    } catch {
      guard isRefusal(error) || error == .invalidArgument else { throw BackendError(error, at: offset) }
      refused.note(.seekData)
      return allData
    }
  }

  private func currentSize(of file: OpenFile) throws(BackendError) -> UInt64 {
    do throws(Errno) {
      return try Files.fstat(file).sizeBytes
    } catch {
      throw BackendError(error)
    }
  }
}

/// The beginning of a range as extents, equal neighbours merged.
struct FoundExtents: ~Copyable {
  /// Where the next one begins.
  private(set) var end: UInt64
  let rangeEnd: UInt64
  private let start: UInt64
  private let countMax: Int
  private var found: [Extent] = []

  init(of range: Range<UInt64>, countMax: Int) {
    start = range.lowerBound
    end = range.lowerBound
    rangeEnd = range.upperBound
    self.countMax = countMax
  }

  /// The range is covered, or no more fit.
  private(set) var isFull = false

  /// Nil when nothing was found.
  var extents: [Extent]? { end > start ? found : nil }

  /// - Returns: false when there is no room for it.
  mutating func add(_ lengthBytes: UInt64, _ kind: Extent.Kind) -> Bool {
    if let last = found.indices.last, found[last].kind == kind {
      found[last].lengthBytes += lengthBytes
    } else {
      guard found.count < countMax else {
        isFull = true
        return false
      }
      found.append(Extent(lengthBytes: lengthBytes, kind: kind))
    }
    end += lengthBytes
    return true
  }
}
