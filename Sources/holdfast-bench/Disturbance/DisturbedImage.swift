// The image of a disturbance: sparse, with data where the measured reads and their neighbours need it.

import DaemonHarness
import Glibc

struct DisturbedImage {
  let path: String

  init(in directory: String, name: String) throws {
    path = "\(directory)/\(name).img"
    let descriptor = try opened()
    defer { close(descriptor) }
    guard ftruncate(descriptor, off_t(Region.imageBytes)) == 0 else { throw BenchError("ftruncate: \(errnoText())") }
    for region in [Region.hot, Region.cold, Region.written] {
      for offset in stride(from: region.lowerBound, to: region.upperBound, by: 1 << 20) {
        try write(descriptor, 1 << 20, at: offset)
      }
    }
    guard fdatasync(descriptor) == 0 else { throw BenchError("fdatasync: \(errnoText())") }
  }

  /// What `neighbour` needs: something to trim, something that is not cached; nothing left to write back.
  func prepare(for neighbour: Neighbour) throws {
    let descriptor = try opened()
    defer { close(descriptor) }
    switch neighbour {
    case .slowClient, .flushStorm: break
    case .coldReader: posix_fadvise(descriptor, off_t(Region.cold.lowerBound), Region.cold.count, POSIX_FADV_DONTNEED)
    case .bigTrims:
      for offset in stride(from: Region.trimmed.lowerBound, to: Region.trimmed.upperBound, by: 64 << 20) {
        try write(descriptor, 64 << 10, at: offset)
      }
    }
    guard fdatasync(descriptor) == 0 else { throw BenchError("fdatasync: \(errnoText())") }
    try readAll(descriptor, Region.hot)
  }

  private func opened() throws -> Int32 {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw BenchError("open \(path): \(errnoText())") }
    return descriptor
  }

  private func write(_ descriptor: Int32, _ count: Int, at offset: UInt64) throws {
    var random = Randomness(seed: offset)
    let words = (0..<(count / 8)).map { _ in random.next() }
    let written = words.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, count, off_t(offset)) }
    guard written == count else { throw BenchError("cannot write an image: \(errnoText())") }
  }

  private func readAll(_ descriptor: Int32, _ region: Range<UInt64>) throws {
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { buffer.deallocate() }
    for offset in stride(from: region.lowerBound, to: region.upperBound, by: 1 << 20) {
      guard pread(descriptor, buffer, 1 << 20, off_t(offset)) >= 0 else { throw BenchError("pread: \(errnoText())") }
    }
  }
}
