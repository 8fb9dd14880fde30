// Snapshots of image files: a file without a name shares the storage of the image (FICLONE), and gets its name when it is
// complete. So an error, or the end of the process, leaves nothing behind.

import BlockBackend
import Syscalls
import SystemPackage

extension ImageFile {
  package func beginCopy(at target: FilePath) throws(CopyError) -> any ImageCopy {
    let refusals = CopyRefusals(image: path, target: target)
    guard !isBlockDevice else { throw refusals.blockDevice }
    let directory = target.removingLastComponent()
    do throws(Errno) {
      // Asked before clients have to wait. What comes in between is refused when the name is given.
      if try isThere(target) { throw .fileExists }
      let copy = try Files.openUnnamed(in: directory.isEmpty ? "." : directory)
      if geometry.sizeBytes > 0 {
        // The largest block there is, or all of a small image: whether it works at all.
        let probeBytes: UInt64 = 64 << 10
        try Files.cloneStart(of: file, length: geometry.sizeBytes > probeBytes ? probeBytes : 0, into: copy)
        try Files.ftruncate(copy, sizeBytes: 0)
      }
      return FileCopy(of: file, copy, refusals)
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
  private let refusals: CopyRefusals

  init(of image: OpenFile, _ copy: OpenFile, _ refusals: CopyRefusals) {
    self.image = image
    self.copy = copy
    self.refusals = refusals
  }

  func take() throws(CopyError) {
    do throws(Errno) { try Files.clone(image, into: copy) } catch { throw refusals.explained(error) }
  }

  func publish() throws(CopyError) {
    let target = refusals.target
    do throws(Errno) {
      try Files.fsync(copy)
      try Files.name(copy, target)
    } catch { throw refusals.explained(error) }
    let directory = target.removingLastComponent()
    do throws(Errno) {
      try Files.fsync(try Files.open(directory.isEmpty ? "." : directory, .directory))
    } catch {
      do throws(Errno) { try Files.unlink(target) } catch {}
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
