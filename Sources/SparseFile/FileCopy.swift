// Snapshots of image files: a file without a name shares the storage of the image (FICLONE), and gets its name when it is
// complete. So an error, or the end of the process, leaves nothing behind.

import BlockBackend
import Syscalls
import SystemPackage

extension ImageFile {
  package func beginCopy(at target: FilePath) throws(CopyError) -> any ImageCopy {
    let refusals = CopyRefusals(image: path, target: target)
    guard !isBlockDevice else { throw refusals.blockDevice }
    let parent = target.removingLastComponent()
    do throws(Errno) {
      // Asked before clients have to wait. What comes in between is refused when the name is given.
      guard let name = target.lastComponent, try !isThere(target) else { throw .fileExists }
      // Opened once: whoever renames it meanwhile does not get the copy, its name and its sync into different ones.
      let directory = try Files.open(parent.isEmpty ? "." : parent, .directory)
      let copy = try Files.openUnnamed(in: directory)
      if geometry.sizeBytes > 0 {
        // The largest block there is, or all of a small image: whether it works at all.
        let probeBytes: UInt64 = 64 << 10
        try Files.cloneStart(of: file, length: geometry.sizeBytes > probeBytes ? probeBytes : 0, into: copy)
        try Files.ftruncate(copy, sizeBytes: 0)
      }
      return FileCopy(of: file, copy, name.string, in: directory, refusals)
    } catch {
      throw refusals.explained(error)
    }
  }

  private func isThere(_ path: FilePath) throws(Errno) -> Bool {
    do throws(Errno) {
      _ = try Files.stat(path)
      return true
    } catch .noSuchFileOrDirectory { return false }
  }
}

private final class FileCopy: ImageCopy {
  private let image: OpenFile
  private let copy: OpenFile
  private let name: String
  private let directory: OpenFile
  private let refusals: CopyRefusals

  init(of image: OpenFile, _ copy: OpenFile, _ name: String, in directory: OpenFile, _ refusals: CopyRefusals) {
    self.image = image
    self.copy = copy
    self.name = name
    self.directory = directory
    self.refusals = refusals
  }

  func take() throws(CopyError) {
    do throws(Errno) { try Files.clone(image, into: copy) } catch { throw refusals.explained(error) }
  }

  func publish() throws(CopyError) {
    do throws(Errno) {
      try Files.fsync(copy)
      try Files.name(copy, name, in: directory)
    } catch { throw refusals.explained(error) }
    do throws(Errno) { try Files.fsync(directory) } catch {
      do throws(Errno) { try Files.unlink(name, in: directory) } catch { throw refusals.leftBehind(error) }
      throw refusals.explained(error)
    }
  }
}

/// What is in the way of a copy, for the operator.
private struct CopyRefusals {
  let image: FilePath
  let target: FilePath

  var blockDevice: CopyError {
    CopyError(
      .notSupported,
      "cannot copy \(image) to \(target): it is a block device, and only files share storage; take the snapshot below it (LVM), or "
        + "copy it with nbdcopy")
  }

  func explained(_ errno: Errno) -> CopyError {
    CopyError(errno, "cannot copy \(image) to \(target): \(reason(errno))")
  }

  /// Its directory could not be synced, nor the name taken back.
  func leftBehind(_ errno: Errno) -> CopyError {
    CopyError(
      errno,
      "the copy of \(image) is complete and has its name, \(target), but may lose it in a crash; it could not be removed: "
        + "\(errno)")
  }

  private func reason(_ errno: Errno) -> String {
    switch errno {
    case .fileExists: "the file exists, and a snapshot replaces nothing; choose another name"
    case .improperLink:
      "it would be on another file system, and only files of one share storage; name a file beside the image"
    case .notSupported, .inappropriateIOCTLForDevice:
      "its file system cannot share storage between files; XFS and btrfs can, anywhere else copy it with nbdcopy"
    case .invalidArgument:
      "the file system refuses to share the storage (\(errno)); on btrfs both files have to be copy-on-write or both not, "
        + "see lsattr"
    case .noSuchFileOrDirectory: "there is no such directory"
    default: "\(errno)"
    }
  }
}
