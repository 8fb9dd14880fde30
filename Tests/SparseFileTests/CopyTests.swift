// Copies that share storage: what they hold, where there are none, and that layouts are told truly afterwards.

import BlockBackend
import Foundation
import SparseFile
import SystemPackage
import TestBackends
import Testing

private let mib: UInt64 = 1 << 20

@Suite struct CopyTests {
  private func copy(_ image: ImageFile, to path: FilePath) throws {
    let copy = try image.beginCopy(at: path)
    try image.sync()
    try copy.take()
    try copy.publish()
  }

  private func refusal(_ image: ImageFile, _ path: FilePath) -> CopyError? {
    do throws(CopyError) {
      _ = try image.beginCopy(at: path)
      return nil
    } catch { return error }
  }

  @Test(
    .enabled(if: canMount && has("mkfs.xfs") && has("mkfs.btrfs"), "\(whyNoMount), mkfs.xfs, mkfs.btrfs"),
    arguments: ["xfs", "btrfs"])
  func aCopyHoldsWhatTheImageHeldAndIsItsOwn(fileSystem: String) throws {
    try withMount(fileSystem) { directory in
      let (path, target) = (directory.appending("image"), directory.appending("copy"))
      try makeSparse(path, 4 * mib + 100)
      let image = try ImageFile.open(path: path)
      try image.write(bytes(Int(mib), 1), at: 0)
      try image.write(bytes(100, 2), at: 4 * mib)
      try copy(image, to: target)
      try image.write(bytes(4096, 3), at: 0)
      let snapshot = try ImageFile.open(path: target)
      #expect(snapshot.geometry.sizeBytes == 4 * mib + 100)
      #expect(try snapshot.bytes(at: 0, Int(mib)) == bytes(Int(mib), 1))
      #expect(try snapshot.bytes(at: 4 * mib, 100) == bytes(100, 2))
      try snapshot.write(bytes(4096, 4), at: 8192)
      #expect(try image.bytes(at: 8192, 4096) == Array(bytes(Int(mib), 1)[8192..<12_288]))
      #expect(try image.bytes(at: 0, 4096) == bytes(4096, 3))
      let mode = try FileManager.default.attributesOfItem(atPath: target.string)[.posixPermissions] as? Int
      #expect(mode == 0o600, "whoever may read the copy reads the disk")
      #expect(refusal(image, target)?.errno == .fileExists)
      #expect(refusal(image, directory.appending("none/copy"))?.errno == .noSuchFileOrDirectory)
      #expect(refusal(image, FilePath("/tmp/elsewhere.\(getpid())"))?.errno == .improperLink)
    }
  }

  /// Both sides of a snapshot: the shared tail, the hole behind it and a hole elsewhere are written to, and asked about before any
  /// sync.
  @Test(
    .enabled(if: canMount && has("mkfs.xfs") && has("mkfs.btrfs"), "\(whyNoMount), mkfs.xfs, mkfs.btrfs"),
    arguments: ["xfs", "btrfs"])
  func layoutsStayTrueAfterASnapshot(fileSystem: String) throws {
    try withMount(fileSystem) { directory in
      let (path, target) = (directory.appending("image"), directory.appending("copy"))
      try makeSparse(path, 4 * mib)
      let image = try ImageFile.open(path: path)
      try image.write(bytes(Int(mib), 1), at: 0)
      try copy(image, to: target)
      for each in [image, try ImageFile.open(path: target)] {
        #expect(
          try each.extents(of: 0..<4 * mib, extentsMax: 100) == [
            Extent(lengthBytes: mib, kind: .data), Extent(lengthBytes: 3 * mib, kind: .hole),
          ])
        try each.write(bytes(65_536, 2), at: mib - 65_536)
        try each.write(bytes(65_536, 3), at: mib)
        try each.write(bytes(65_536, 4), at: 3 * mib)
        #expect(
          try each.extents(of: 0..<4 * mib, extentsMax: 100) == [
            Extent(lengthBytes: mib + 65_536, kind: .data), Extent(lengthBytes: 2 * mib - 65_536, kind: .hole),
            Extent(lengthBytes: 65_536, kind: .data), Extent(lengthBytes: mib - 65_536, kind: .hole),
          ])
      }
    }
  }

  @Test(.enabled(if: canMount && has("mkfs.ext4"), "\(whyNoMount), mkfs.ext4"))
  func whereStorageIsNotSharedTheRefusalSaysWhatWorks() throws {
    try withMount("ext4") { directory in
      let path = directory.appending("image")
      try makeSparse(path, mib)
      let target = directory.appending("copy")
      let refused = refusal(try ImageFile.open(path: path), target)
      #expect(refused?.errno == .notSupported)
      #expect(
        refused?.description
          == "cannot copy \(path) to \(target): its file system cannot share storage between files; XFS and btrfs can, "
          + "anywhere else copy it with nbdcopy")
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: directory.string).sorted() == ["image", "lost+found"])
    }
  }

  @Test(.enabled(if: canMount, "\(whyNoMount)")) func aBlockDeviceIsNotCopied() throws {
    try withLoopDevice(sizeBytes: mib) { device, _ in
      let refused = refusal(try ImageFile.open(path: device), FilePath("/tmp/copy.\(getpid())"))
      #expect(refused?.description.contains("it is a block device, and only files share storage") == true)
    }
  }
}
