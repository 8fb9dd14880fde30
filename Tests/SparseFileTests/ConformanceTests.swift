// Images on every kind of place, against the list of what every backend has to do.

import BlockBackend
import SparseFile
import SystemPackage
import TestBackends
import Testing

/// The one suite of all backends, on every kind of place that an image can be.
@Suite struct ConformanceTests {
  /// An odd size: the last sector and page are not full.
  static let sizeBytes: UInt64 = (4 << 20) + 777

  private func conforms(in parent: String) throws {
    try checkAll(parent) { body in
      try withFile(in: parent, sizeBytes: Self.sizeBytes) { try body($0) }
    }
  }

  private func checkAll(_ place: String, _ withImage: (_ body: (FilePath) throws -> Void) throws -> Void) throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    for check in ConformanceCheck.all {
      do {
        try withImage { path in try check.run(try ImageFile.open(path: path), seed) }
      } catch {
        Issue.record("\(place), \(check), seed \(seed): \(error)")
      }
    }
  }

  @Test func fileConforms() throws { try conforms(in: "/tmp") }

  @Test func fileInMemoryConforms() throws { try conforms(in: "/dev/shm") }

  @Test(.enabled(if: canMount && has("mkfs.xfs"), "\(whyNoMount), mkfs.xfs")) func fileOnXFSConforms() throws {
    try withMount("xfs") { try conforms(in: $0.string) }
  }

  @Test(.enabled(if: canMount && has("mkfs.btrfs"), "\(whyNoMount), mkfs.btrfs")) func fileOnBtrfsConforms() throws {
    try withMount("btrfs") { try conforms(in: $0.string) }
  }

  @Test(.enabled(if: canMount && has("mkfs.ext4"), "\(whyNoMount), mkfs.ext4")) func fileOnExt4Conforms() throws {
    try withMount("ext4") { try conforms(in: $0.string) }
  }

  @Test(.enabled(if: canMount, "\(whyNoMount)")) func loopDeviceConforms() throws {
    try checkAll("loop device") { body in
      try withLoopDevice(sizeBytes: 5 << 20) { device, _ in try body(device) }
    }
  }
}
