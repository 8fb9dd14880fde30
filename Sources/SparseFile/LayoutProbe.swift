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
  private func run(in rest: Range<UInt64>, of file: OpenFile) throws(BackendError) -> Extent? {
    var probe = RunProbe(of: rest, canSeek: !refused.remembers(.seekData))
    while true {
      switch probe.step {
      case .done(let extent): return extent
      case .failed(let error): throw error
      case .askSize: probe.sized(try currentSize(of: file))
      case .call(let call):
        do throws(Errno) {
          probe.found(
            call.kind == .seekData
              ? try calls.seekData(file.descriptor, from: call.offset)
              : try calls.seekHole(file.descriptor, from: call.offset))
        } catch {
          if probe.failed(error) { refused.note(.seekData) }
        }
      }
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
