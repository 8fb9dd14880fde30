// Sparse images whose data stands at regular distances: on disk and in the page cache.

import DaemonHarness
import Glibc

/// 4,096 blocks of 4 KiB, each followed by a hole, spread evenly over an image of any size.
struct SpreadImage {
  static let blocks = 4096
  let path: String
  let sizeBytes: UInt64

  var strideBytes: UInt64 { sizeBytes / UInt64(Self.blocks) }

  init(in directory: String, sizeBytes: UInt64) throws {
    path = directory + "/spread.img"
    self.sizeBytes = sizeBytes
    try makeSpread(path, blocks: Self.blocks, strideBytes: strideBytes)
  }

  func remove() { unlink(path) }
}

/// Blocks of data and holes of 4 KiB in turn.
struct FragmentedImage {
  let path: String
  let sizeBytes: UInt64

  init(in directory: String, extents: Int) throws {
    path = directory + "/extents.img"
    sizeBytes = UInt64(extents) * 4096
    try makeSpread(path, blocks: extents / 2, strideBytes: 8192)
  }

  func remove() { unlink(path) }
}

private func makeSpread(_ path: String, blocks: Int, strideBytes: UInt64) throws {
  let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw BenchError("open \(path): \(errnoText())") }
  defer { close(descriptor) }
  guard ftruncate(descriptor, off_t(UInt64(blocks) * strideBytes)) == 0 else {
    throw BenchError("ftruncate: \(errnoText())")
  }
  let block = [UInt8](repeating: 0xa5, count: 4096)
  for index in 0..<UInt64(blocks) {
    guard pwrite(descriptor, block, block.count, off_t(index * strideBytes)) == block.count else {
      throw BenchError("cannot write \(path): \(errnoText())")
    }
  }
  guard fdatasync(descriptor) == 0 else { throw BenchError("fdatasync: \(errnoText())") }
}
