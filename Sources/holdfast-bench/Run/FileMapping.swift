// A file in memory: how much of it is in the page cache, and a way to keep it there.

import DaemonHarness
import Glibc

/// The first bytes of a file, mapped to be read.
final class FileMapping {
  private let start: UnsafeMutableRawPointer
  private let bytes: Int

  init(_ descriptor: Int32, bytes: Int) throws {
    guard let start = mmap(nil, bytes, PROT_READ, MAP_SHARED, descriptor, 0), start != MAP_FAILED else {
      throw BenchError("mmap: \(errnoText())")
    }
    self.start = start
    self.bytes = bytes
  }

  deinit { munmap(start, bytes) }

  var pages: Int { bytes / 4096 }

  /// Pages that are in the page cache.
  var residentPages: Int {
    var resident = [UInt8](repeating: 0, count: pages)
    return mincore(start, bytes, &resident) == 0 ? resident.count { $0 & 1 != 0 } : 0
  }

  /// False when the limit on locked memory is lower.
  func lock() -> Bool { mlock(start, bytes) == 0 }
}

/// Keeps a file in the page cache for as long as it lives, where the process may lock so much memory.
final class MemoryLock {
  private let mapping: FileMapping

  init(_ descriptor: Int32, bytes: Int) throws {
    mapping = try FileMapping(descriptor, bytes: bytes)
    _ = mapping.lock()
  }

  /// Nothing has been thrown out: direct I/O does that to locked pages, too.
  var isComplete: Bool { mapping.residentPages == mapping.pages }
}
