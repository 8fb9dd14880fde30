// An image that is a sparse file or a block device. Data moves by explicit offset (I1), each byte exactly once (I2).

import BlockBackend
import Synchronization
import Syscalls
import SystemPackage

/// A regular file or block device. All methods may be called from any thread.
package final class ImageFile: BlockBackend {
  package let path: FilePath
  package let identity: ImageIdentity
  package let capabilities: Capabilities
  private let openedGeometry: Geometry
  private let sizeBytes: Atomic<UInt64>

  package var geometry: Geometry {
    var geometry = openedGeometry
    geometry.sizeBytes = sizeBytes.load(ordering: .acquiring)
    return geometry
  }

  /// What the operator should know; a sentence each.
  package let warnings: [String]

  /// Opening it made the file: there was none at the path before.
  package let wasMade: Bool

  /// Data only: nothing here or elsewhere may move its file offset.
  let file: OpenFile
  let isBlockDevice: Bool
  /// What TRIM is rounded inward to, bytes: block of the file system, logical block of the device. A power of two.
  let trimUnitBytes: UInt64
  let calls: FileCalls
  let guards: GuardSwitches
  let layout: LayoutProbe
  let refused = RefusedCalls()
  let effectCounters = EffectCounters()
  /// The medium is memory, and the kernel has no RWF_NOWAIT for it (tmpfs): a plain read is as good.
  private let isInMemory: Bool
  private let sendsPages: Bool
  private let lease: ImageLease
  package let readDescriptor: Int32?

  /// `opened` has been checked and locked.
  init(_ opened: OpenedImage, calls: FileCalls, guards: GuardSwitches) {
    path = opened.path
    identity = opened.lease.identity
    openedGeometry = opened.geometry
    sizeBytes = Atomic(opened.geometry.sizeBytes)
    capabilities = calls.isFaulty ? opened.capabilities.subtracting(.local) : opened.capabilities
    warnings = opened.warnings
    wasMade = opened.wasMade
    file = opened.file
    isBlockDevice = opened.isBlockDevice
    trimUnitBytes = opened.trimUnitBytes
    self.calls = calls
    self.guards = guards
    layout = LayoutProbe(opened.probe, calls: calls, mapsExtents: opened.mapsExtents)
    isInMemory = opened.isInMemory
    sendsPages = opened.sendsPages && !calls.areObserved
    lease = opened.lease
    // What is in memory is never waited for; who takes `ownProbeDescriptor` out, or looks at calls, wants to see `read`.
    let mayBypassRead = !opened.isInMemory && guards.stands(.ownProbeDescriptor) && !calls.areObserved
    readDescriptor = mayBypassRead ? opened.file.descriptor : nil
  }

  package var effects: EffectCounters? { effectCounters }

  package var imagePath: String? { path.string }

  /// Storage that the file takes, bytes; nil for a block device, and where the question may hang.
  package var allocatedBytes: UInt64? {
    guard !isBlockDevice, capabilities.contains(.local) else { return nil }
    do throws(Errno) { return try Files.fstat(file).allocatedBytes } catch { return nil }
  }

  package func lendFile() -> (any LentFile)? {
    guard guards.stands(.privateCopyOfReads) else { return StillFile(file, nil) }
    guard sendsPages, let stillness = lease.stillness else { return nil }
    return StillFile(file, stillness)
  }

  /// How often the file is lent now, for tests.
  package var lentCount: Int { lease.stillness?.lentCount ?? 0 }

  /// What a path names now, compared with the image that was opened there.
  package enum PathMeaning: Sendable {
    case thisImage
    /// What is served is no longer what a restart would serve.
    case anotherFile
    /// On its way to be replaced, perhaps.
    case nothing
  }

  package func pathMeaning() -> PathMeaning {
    do throws(Errno) {
      return ImageIdentity(try Files.stat(path)) == identity ? .thisImage : .anotherFile
    } catch {
      // Who cannot tell says nothing.
      return error == .noSuchFileOrDirectory || error == .notDirectory ? .nothing : .thisImage
    }
  }
}

extension ImageIdentity {
  init(_ status: FileStatus) {
    self =
      status.kind == .blockDevice
      ? .blockDevice(status.deviceNode) : .file(device: status.device, inode: status.inode)
  }
}

// MARK: - Reading and writing

extension ImageFile {
  package func read(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) {
    let range = offset..<offset + UInt64(bytes.byteCount)
    // The end of the file inside `range` (it was cut by somebody) is 0 bytes done, which the splitter makes EIO.
    try forEachPiece(of: range, pieceBytesMax: Files.transferBytesMax, pause: { calls.pause($0) }) {
      (position, length) throws(Errno) in
      let start = Int(position - offset)
      var piece = bytes._mutatingExtracting(start..<start + Int(length))
      guard guards.stands(.ownProbeDescriptor) else {
        return try calls.seekThenRead(file.descriptor, into: &piece, at: position)
      }
      return try calls.pread(file.descriptor, into: &piece, at: position)
    }
  }

  package func readCached(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) -> Int {
    if isInMemory {
      try read(into: &bytes, at: offset)
      return bytes.byteCount
    }
    guard !refused.remembers(.readCached) else { return 0 }
    do throws(Errno) {
      return Int(try calls.preadNowait(file.descriptor, into: &bytes, at: offset))
    } catch {
      // EAGAIN: not in memory. Any other error will meet `read` as well, which knows how to report it.
      if error.isRefusal { refused.note(.readCached) }
      return 0
    }
  }

  package func isCached(_ range: Range<UInt64>) -> Bool {
    if isInMemory || range.isEmpty { return true }
    if !refused.remembers(.countCached) {
      let page = UInt64(pageBytes())
      do throws(Errno) {
        let cached = try calls.cachedPages(file.descriptor, range)
        return cached >= (range.upperBound - 1) / page - range.lowerBound / page + 1
      } catch {
        refused.note(.countCached)
      }
    }
    // Read-ahead brings this much at a time, so what is missing is rarely less.
    var offset = range.lowerBound
    while offset < range.upperBound {
      guard hasCachedByte(at: offset) else { return false }
      offset += cacheStepBytes
    }
    return hasCachedByte(at: range.upperBound - 1)
  }

  private func hasCachedByte(at offset: UInt64) -> Bool {
    var byte = IOBuffer(count: 1)
    var span = byte.mutableBytes
    do throws(BackendError) { return try readCached(into: &span, at: offset) == 1 } catch { return false }
  }

  package func write(_ bytes: RawSpan, at offset: UInt64) throws(BackendError) {
    let range = offset..<offset + UInt64(bytes.byteCount)
    try forEachPiece(of: range, pieceBytesMax: Files.transferBytesMax, pause: { calls.pause($0) }) {
      (position, length) throws(Errno) in
      let start = Int(position - offset)
      guard guards.stands(.resumeAfterShortWrite) || start == 0 else {
        return min(length, try calls.pwrite(file.descriptor, bytes, at: position))
      }
      return try calls.pwrite(file.descriptor, bytes.extracting(start..<start + Int(length)), at: position)
    }
  }

  package func sync() throws(BackendError) {
    while true {
      do throws(Errno) {
        return try calls.fdatasync(file.descriptor)
      } catch {
        guard error == .interrupted else { throw BackendError(error) }
      }
    }
  }

  /// Regular files that are open for writing. A file that somebody else has made larger is left alone.
  package func grow(to newSizeBytes: UInt64) throws(BackendError) {
    guard !isBlockDevice, capabilities.contains(.writable) else { throw BackendError(.notSupported) }
    guard newSizeBytes > sizeBytes.load(ordering: .acquiring) else { throw BackendError(.invalidArgument) }
    do throws(Errno) {
      guard try Files.fstat(file).sizeBytes <= newSizeBytes else { throw .fileExists }
      try Files.ftruncate(file, sizeBytes: newSizeBytes)
    } catch {
      throw BackendError(error)
    }
  }

  package func publish(sizeBytes newSizeBytes: UInt64) { sizeBytes.max(newSizeBytes, ordering: .acquiringAndReleasing) }

  package func forgetCached() throws(BackendError) {
    do throws(Errno) { try Files.dontNeed(file.descriptor) } catch { throw BackendError(error) }
  }

  package func cache(_ range: Range<UInt64>) throws(BackendError) {
    let end = min(range.upperBound, range.lowerBound + cacheBytesMax)
    var offset = range.lowerBound
    while offset < end {
      let length = min(end - offset, cacheStepBytes)
      // Advice may fail; nobody depends on it.
      do throws(Errno) { try calls.willNeed(file.descriptor, at: offset, length: length) } catch { return }
      offset += length
    }
  }

  package func extents(of range: Range<UInt64>, extentsMax: Int) throws(BackendError) -> [Extent] {
    guard !isBlockDevice else { return [Extent(lengthBytes: UInt64(range.count), kind: .data)] }
    return try layout.extents(of: range, extentsMax: extentsMax)
  }
}

/// POSIX_FADV_WILLNEED reads at most one read-ahead window per call, 128 KiB by default.
private let cacheStepBytes: UInt64 = 128 << 10
/// One request may not evict everything else.
private let cacheBytesMax: UInt64 = 256 << 20
