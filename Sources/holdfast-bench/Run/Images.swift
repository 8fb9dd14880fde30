// The images of a run, and the state in which every measurement finds them.

import DaemonHarness
import Glibc

final class Images {
  private let directory: String
  private var made: Set<String> = []
  /// What may have left the page cache: direct I/O drops the pages that it writes past.
  private var stale: Set<String> = []

  /// The main image stays in memory: a kernel that reclaims what is idle would make the next server read from the disk.
  private var lock: MemoryLock?

  init(directory: String) { self.directory = directory }

  func path(_ kind: ImageKind) -> String { "\(directory)/\(kind.rawValue).img" }

  func isStale(_ kind: ImageKind) { stale.insert(kind.rawValue) }

  /// Makes `kind` what it says it is: on disk, with nothing left to write back, in the page cache or out of it.
  func prepare(_ kind: ImageKind) throws {
    let isNew = made.insert(kind.rawValue).inserted
    if kind.isMadeAnew { unlink(path(kind)) }
    let flags = O_RDWR | O_CREAT | O_CLOEXEC
    let descriptor = open(path(kind), flags, 0o600)
    guard descriptor >= 0 else { throw BenchError("open \(path(kind)): \(errnoText())") }
    defer { close(descriptor) }
    if isNew || kind.isMadeAnew {
      guard ftruncate(descriptor, off_t(kind.sizeBytes)) == 0 else { throw BenchError("ftruncate: \(errnoText())") }
      try fill(descriptor, kind)
    }
    guard fdatasync(descriptor) == 0 else { throw BenchError("fdatasync: \(errnoText())") }
    switch kind {
    case .cold: try evict(descriptor, kind)
    case .main, .scratch, .small, .fragmented, .halfSparse:
      if stale.remove(kind.rawValue) != nil { try warm(descriptor, kind) }
    }
    if kind == .main {
      if let lock, !lock.isComplete {
        try warm(descriptor, kind)
        self.lock = nil
      }
      if lock == nil { lock = try MemoryLock(descriptor, bytes: Int(kind.sizeBytes)) }
    }
  }

  private func fill(_ descriptor: Int32, _ kind: ImageKind) throws {
    switch kind {
    case .main:
      // Block by block, as a guest writes: what comes in large pieces is cached in large folios, and ext4 then looks at each
      // block of the folio in every small write, which is most of the time that any server takes.
      for offset in stride(from: 0, to: kind.sizeBytes, by: 4096) { try write(descriptor, 4096, at: offset) }
    case .scratch, .small, .cold:
      for offset in stride(from: 0, to: kind.sizeBytes, by: 1 << 20) { try write(descriptor, 1 << 20, at: offset) }
    case .fragmented:
      for offset in stride(from: 0, to: kind.sizeBytes, by: 8192) { try write(descriptor, 4096, at: offset) }
    case .halfSparse:
      for offset in stride(from: 0, to: kind.sizeBytes, by: 128 << 20) {
        for piece in 0..<UInt64(64) { try write(descriptor, 1 << 20, at: offset + piece << 20) }
      }
    }
  }

  /// No block is all zeroes and no two are alike.
  private func write(_ descriptor: Int32, _ count: Int, at offset: UInt64) throws {
    var random = Randomness(seed: offset)
    let words = (0..<(count / 8)).map { _ in random.next() }
    let written = words.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, count, off_t(offset)) }
    guard written == count else { throw BenchError("cannot write an image: \(errnoText())") }
  }

  private func warm(_ descriptor: Int32, _ kind: ImageKind) throws {
    // No readahead, which would make large folios.
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_RANDOM)
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { buffer.deallocate() }
    for offset in stride(from: 0, to: kind.sizeBytes, by: 1 << 20) {
      guard pread(descriptor, buffer, 1 << 20, off_t(offset)) >= 0 else { throw BenchError("pread: \(errnoText())") }
    }
  }

  private func evict(_ descriptor: Int32, _ kind: ImageKind) throws {
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
    let map = try FileMapping(descriptor, bytes: Int(kind.sizeBytes))
    let left = map.residentPages
    if left > map.pages / 100 { throw BenchError("the cold image cannot be evicted: \(left) pages are cached") }
  }
}
