// FIEMAP beside SEEK_DATA and SEEK_HOLE, and both beside what was written. This is the proof that `FileSystemKind.mapsExtents`
// rests on.

import BlockBackend
import Foundation
import SparseFile
import Syscalls
import SystemPackage
import TestBackends
import Testing

private let block: UInt64 = 4096
/// The smallest block of ext4.
private let unit: UInt64 = 1024
private let sizeBytes = 256 * block
private let all = 0..<sizeBytes

/// An image on which everything is done twice: with FIEMAP, and by seeking only; and what has to be data.
private struct Subject {
  let mapped: ImageFile
  let sought: ImageFile
  let script = Script()
  /// Units that were written to and not zeroed since.
  private(set) var written = Set<UInt64>()
  private var random: SplitMix

  init(_ path: FilePath, seed: UInt64) throws {
    mapped = try ImageFile.open(path: path, hook: script.hook)
    sought = try ImageFile.open(path: path) { $0.kind == .mapExtents ? .fail(.notSupported) : .perform }
    random = SplitMix(seed: seed)
  }

  mutating func doSomething() throws {
    let start = UInt64.random(in: 0..<sizeBytes, using: &random)
    let end = min(sizeBytes, start + UInt64.random(in: 1...12 * block, using: &random))
    let aligned = start / block * block..<(end + block - 1) / block * block
    switch Int.random(in: 0..<11, using: &random) {
    case 0...3:
      try mapped.write(bytes(Int(end - start)), at: start)
      written.formUnion(start / unit...(end - 1) / unit)
    case 4:
      try mapped.trim(aligned)
      forget(aligned)
    case 5:
      try mapped.zero(aligned, [])
      forget(aligned)
    case 6:
      try mapped.zero(aligned, .noHole)
      forget(aligned)
    case 7:
      // Unwritten extents where nothing was.
      try withDescriptor { try Files.fallocate($0, .allocate, at: aligned.lowerBound, length: UInt64(aligned.count)) }
    case 8: try mapped.sync()
    case 9: try withDescriptor { _ = posix_fadvise($0, 0, 0, POSIX_FADV_DONTNEED) }
    default: _ = try mapped.bytes(at: start, Int(end - start))
    }
  }

  private mutating func forget(_ range: Range<UInt64>) {
    written.subtract(range.lowerBound / unit..<range.upperBound / unit)
  }

  private func withDescriptor(_ body: (Int32) throws -> Void) throws {
    let file = try FileDescriptor.open(mapped.path, .readWrite)
    defer { try? file.close() }
    try body(file.rawValue)
  }

  /// Units that were written and are told to be holes.
  func lies(_ extents: [Extent], from start: UInt64) -> [UInt64] {
    var lies: [UInt64] = []
    var offset = start
    for extent in extents {
      let end = offset + extent.lengthBytes
      if extent.kind != .data {
        lies += written.filter { $0 * unit < end && ($0 + 1) * unit > offset }
      }
      offset = end
    }
    return lies
  }

  mutating func someRange() -> Range<UInt64> {
    let start = UInt64.random(in: 0..<sizeBytes, using: &random)
    return Bool.random(using: &random) ? all : start..<UInt64.random(in: start + 1...sizeBytes, using: &random)
  }
}

@Suite struct MappedLayoutTests {
  @Test(
    .enabled(if: canMount && has("mkfs.ext4"), "\(whyNoMount), mkfs.ext4"),
    arguments: [UInt64.random(in: 0 ... .max), UInt64.random(in: 0 ... .max), 1])
  func fiemapTellsWhatSeekingTells(seed: UInt64) throws {
    try withMount("ext4") { directory in
      let path = directory.appending("image")
      try makeSparse(path, sizeBytes)
      var subject = try Subject(path, seed: seed)
      var differences = 0
      for step in 0..<1500 {
        try subject.doSomething()
        let range = subject.someRange()
        let before = try subject.sought.extents(of: range, extentsMax: 1000)
        let mapped = try subject.mapped.extents(of: range, extentsMax: 1000)
        let after = try subject.sought.extents(of: range, extentsMax: 1000)
        #expect(subject.lies(mapped, from: range.lowerBound).isEmpty, "seed \(seed), step \(step): \(range)")
        // Write-back and reclaim go on meanwhile, and may move what seeking tells.
        guard before == after else { continue }
        if mapped != before { differences += 1 }
        #expect(mapped == before, "seed \(seed), step \(step): \(range)")
        guard differences < 3 else { return }
      }
      #expect(subject.script.calls(.mapExtents).count >= 1500, "FIEMAP was given up")
    }
  }

  /// Data moves from delayed allocation to unwritten to written extents while it is looked at, and out of the cache.
  @Test(.enabled(if: canMount && has("mkfs.ext4"), "\(whyNoMount), mkfs.ext4"))
  func dataThatIsBeingWrittenBackIsNeverAHole() throws {
    let seed = UInt64.random(in: 0 ... .max)
    try withMount("ext4") { directory in
      let path = directory.appending("image")
      try makeSparse(path, sizeBytes)
      var subject = try Subject(path, seed: seed)
      let flusher = Thread {
        guard let file = try? FileDescriptor.open(path, .readWrite) else { return }
        while !Thread.current.isCancelled {
          fdatasync(file.rawValue)
          posix_fadvise(file.rawValue, 0, 0, POSIX_FADV_DONTNEED)
        }
        try? file.close()
      }
      flusher.start()
      defer {
        flusher.cancel()
        while !flusher.isFinished { usleep(1000) }
      }
      let end = Date().addingTimeInterval(1.5)
      var step = 0
      while Date() < end {
        try subject.doSomething()
        let extents = try subject.mapped.extents(of: all, extentsMax: 1000)
        #expect(subject.lies(extents, from: 0).isEmpty, "seed \(seed), step \(step)")
        step += 1
      }
      #expect(subject.script.calls(.mapExtents).count >= step, "FIEMAP was given up")
    }
  }

  @Test(.enabled(if: canMount && has("mkfs.ext4"), "\(whyNoMount), mkfs.ext4"))
  func manyExtentsTakeSeveralAnswers() throws {
    try withMount("ext4") { directory in
      let path = directory.appending("image")
      let count: UInt64 = 3000
      try makeSparse(path, 2 * count * block)
      let script = Script()
      let image = try ImageFile.open(path: path, hook: script.hook)
      for index in 0..<count { try image.write(bytes(4096), at: 2 * index * block) }
      let extents = try image.extents(of: 0..<2 * count * block, extentsMax: 10_000)
      #expect(extents.count == Int(2 * count))
      let expected = extents.indices.map { Extent(lengthBytes: block, kind: $0 % 2 == 0 ? .data : .hole) }
      #expect(extents == expected)
      #expect(script.calls(.mapExtents).count == 3)
      // One SEEK_DATA for each answer.
      #expect(script.calls(.seekData).count == 3)
      let some = try image.extents(of: 1..<2 * count * block, extentsMax: 2500)
      #expect(some.count == 2500)
      #expect(some.first == Extent(lengthBytes: block - 1, kind: .data))
    }
  }

  @Test(.enabled(if: canMount && has("mkfs.ext4"), "\(whyNoMount), mkfs.ext4"))
  func fiemapIsGivenUpWhereItDiffersOrIsRefused() throws {
    try withMount("ext4") { directory in
      let answers: [[FileCall.Kind: [FileCallAnswer]]] = [
        // SEEK_DATA knows of data in the first hole of FIEMAP.
        [.seekData: [.pretend(block)]],
        [.mapExtents: [.fail(.notSupported)]],
        [.mapExtents: [.fail(.inappropriateIOCTLForDevice)]],
      ]
      for answer in answers {
        let path = directory.appending("image")
        try makeSparse(path, sizeBytes)
        let script = Script(answer)
        let image = try ImageFile.open(path: path, hook: script.hook)
        try image.write(bytes(4096), at: 8 * block)
        let expected = [
          Extent(lengthBytes: 8 * block, kind: .hole), Extent(lengthBytes: block, kind: .data),
          Extent(lengthBytes: sizeBytes - 9 * block, kind: .hole),
        ]
        for _ in 0..<2 { #expect(try image.extents(of: all, extentsMax: 100) == expected) }
        #expect(script.calls(.mapExtents).count == 1, "\(answer)")
      }
    }
  }

  @Test(.enabled(if: canMount && has("mkfs.ext4"), "\(whyNoMount), mkfs.ext4"))
  func behindTheEndOfAFileCutByOthersThereIsNoHole() throws {
    try withMount("ext4") { directory in
      let path = directory.appending("image")
      try makeSparse(path, sizeBytes)
      let image = try ImageFile.open(path: path)
      try setSize(path, 64 * block)
      #expect(try image.extents(of: all, extentsMax: 100) == [Extent(lengthBytes: 64 * block, kind: .hole)])
      #expect(throws: BackendError(.ioError, at: 64 * block)) {
        try image.extents(of: 64 * block..<sizeBytes, extentsMax: 100)
      }
    }
  }

  /// Where blocks are shared, FIEMAP does not know of data that was written and not yet written back.
  @Test(
    .enabled(if: canMount && has("mkfs.xfs") && has("mkfs.btrfs"), "\(whyNoMount), mkfs.xfs, mkfs.btrfs"),
    arguments: ["xfs", "btrfs"])
  func whereBlocksCanBeSharedNobodyAsksFIEMAP(fileSystem: String) throws {
    try withMount(fileSystem) { directory in
      let mib: UInt64 = 1 << 20
      let (original, copy) = (directory.appending("original"), directory.appending("copy"))
      try makeSparse(original, 4 * mib)
      do {
        let image = try ImageFile.open(path: original)
        try image.write(bytes(Int(mib)), at: 0)
        try image.sync()
      }
      try run("cp", "--reflink=always", original.string, copy.string)
      let script = Script()
      let image = try ImageFile.open(path: copy, hook: script.hook)
      // The shared tail, the hole behind it, and a hole elsewhere.
      try image.write(bytes(65_536, 1), at: mib - 65_536)
      try image.write(bytes(65_536, 2), at: mib)
      try image.write(bytes(65_536, 3), at: 3 * mib)
      #expect(
        try image.extents(of: 0..<4 * mib, extentsMax: 100) == [
          Extent(lengthBytes: mib + 65_536, kind: .data), Extent(lengthBytes: 2 * mib - 65_536, kind: .hole),
          Extent(lengthBytes: 65_536, kind: .data), Extent(lengthBytes: mib - 65_536, kind: .hole),
        ])
      #expect(script.calls(.mapExtents).isEmpty)
    }
  }
}
