// Where a file has data. SEEK_DATA and SEEK_HOLE decide, nothing else (I3): what they leave open is data.

import BlockBackend
import Locking
import Syscalls
import SystemPackage

/// A descriptor for probes only, with a file offset that nobody else knows (I1).
struct LayoutProbe: ~Copyable, Sendable {
  // The lock covers the file offset of the descriptor, which every seek moves.
  private let file: Locked<OpenFile>
  private let calls: FileCalls
  private let refused = RefusedCalls()

  init(_ file: OpenFile, calls: FileCalls) {
    self.file = Locked(file)
    self.calls = calls
  }

  /// See `BlockBackend.extents`.
  func extents(of range: Range<UInt64>, extentsMax: Int) throws(BackendError) -> [Extent] {
    precondition(extentsMax > 0, "at least one extent has to fit")
    guard !range.isEmpty else { return [] }
    var extents: [Extent] = []
    var offset = range.lowerBound
    while offset < range.upperBound {
      // Locked for a run, not for the whole query: a long one must not hold up READs of other ranges.
      let next = try file.withLock { file throws(BackendError) in try run(in: offset..<range.upperBound, of: file) }
      guard let next else {
        // Behind the present end of the file: said when somebody asks from there on.
        if extents.isEmpty { throw BackendError(.ioError, at: offset) }
        break
      }
      offset += next.lengthBytes
      if let last = extents.indices.last, extents[last].kind == next.kind {
        extents[last].lengthBytes += next.lengthBytes
      } else if extents.count < extentsMax {
        extents.append(next)
      } else {
        break
      }
    }
    return extents
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
