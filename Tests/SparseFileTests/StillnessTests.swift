// When an image may be sent as it is (I4): only while nobody can change it.

import BlockBackend
import SparseFile
import SystemPackage
import Testing

@Suite struct StillnessTests {
  private let readOnly = OpenOptions(readOnly: true)

  @Test func onlyAReadOnlyImageIsLent() throws {
    try withFile(sizeBytes: 1 << 20) { path in
      #expect(try ImageFile.open(path: path).lendFile() == nil)
      let image = try ImageFile.open(path: path, options: readOnly)
      let lent = [image.lendFile(), image.lendFile()]
      #expect(lent.allSatisfy { $0 != nil })
      #expect(image.lentCount == 2)
    }
  }

  @Test func aReaderBesideAWriterLendsNothing() throws {
    try withFile(sizeBytes: 1 << 20) { path in
      let writer = try ImageFile.open(path: path)
      let reader = try ImageFile.open(path: path, options: readOnly)
      #expect(reader.lendFile() == nil)
      _ = writer
    }
  }

  @Test func aWriterWaitsForWhatIsLentAndEndsIt() throws {
    try withFile(sizeBytes: 1 << 20) { path in
      let (first, second) = (
        try ImageFile.open(path: path, options: readOnly), try ImageFile.open(path: path, options: readOnly)
      )
      var lent = second.lendFile()
      #expect(lent != nil)
      #expect(throws: ImageOpenError.self) { try ImageFile.open(path: path) }
      // It was asked for, so it ends, even for a reader that comes now.
      #expect(first.lendFile() == nil)
      #expect(second.lendFile() == nil)
      #expect(try ImageFile.open(path: path, options: readOnly).lendFile() == nil)
      #expect(throws: ImageOpenError.self) { try ImageFile.open(path: path) }
      lent = nil
      #expect(lent == nil)
      do { _ = try ImageFile.open(path: path) }
      #expect(first.lendFile() == nil, "a writer has been there")
    }
    // A new beginning, when all have gone.
    try withFile(sizeBytes: 1 << 20) { path in
      do { _ = try ImageFile.open(path: path) }
      #expect(try ImageFile.open(path: path, options: readOnly).lendFile() != nil)
    }
  }

  @Test(.enabled(if: canMount, "\(whyNoMount)")) func aBlockDeviceIsNotLent() throws {
    try withLoopDevice(sizeBytes: 1 << 20) { device, _ in
      let image = try ImageFile.open(path: device, options: readOnly)
      #expect(image.lendFile() == nil)
    }
  }

  @Test func cachedIsWhatIsInMemory() throws {
    try withFile(sizeBytes: 4 << 20) { path in
      let script = Script()
      let image = try ImageFile.open(path: path, hook: script.hook)
      #expect(!image.isCached(0..<1 << 20))
      try image.write(bytes(1 << 20), at: 0)
      #expect(image.isCached(0..<1 << 20))
      #expect(image.isCached(4095..<4097))
      #expect(!image.isCached(0..<(1 << 20) + 1))
      #expect(script.calls(.readCached).isEmpty)
    }
  }

  /// Two may grow it at a time, and the smaller one may be the last to be done.
  @Test func aSizeThatClientsWereToldNeverShrinks() throws {
    try withFile(sizeBytes: 1 << 20) { path in
      let image = try ImageFile.open(path: path)
      try image.grow(to: 3 << 20)
      image.publish(sizeBytes: 3 << 20)
      image.publish(sizeBytes: 2 << 20)
      #expect(image.geometry.sizeBytes == 3 << 20)
    }
  }

  /// So that it is read from the medium again.
  @Test func whatIsForgottenIsNotInMemory() throws {
    try withFile(sizeBytes: 4 << 20, checkForgetting)
  }

  @Test(.enabled(if: canMount, "\(whyNoMount)"), arguments: ["xfs", "btrfs"])
  func whatIsForgottenIsNotInMemory(kind: String) throws {
    try withMount(kind) { mount in
      try withFile(in: mount.string, sizeBytes: 4 << 20, checkForgetting)
    }
  }

  private func checkForgetting(_ path: FilePath) throws {
    let image = try ImageFile.open(path: path)
    try image.write(bytes(1 << 20), at: 0)
    try image.sync()
    #expect(image.isCached(0..<1 << 20))
    try image.forgetCached()
    for offset: UInt64 in [0, 1 << 19, (1 << 20) - 4096] { #expect(!image.isCached(offset..<offset + 4096)) }
  }

  /// Linux before 6.5, and files of others: asks for a byte here and there.
  @Test func cachedIsFoundOutWithoutCachestatToo() throws {
    try withFile(sizeBytes: 4 << 20) { path in
      let script = Script([
        .countCached: [.fail(.noFunction)], .readCached: [.perform, .perform, .fail(.resourceTemporarilyUnavailable)],
      ])
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.write(bytes(1 << 20), at: 0)
      #expect(image.isCached(0..<100_000))
      #expect(!image.isCached(0..<100_000))
      #expect(image.isCached(0..<1 << 20))
      #expect(script.calls(.countCached).count == 1)
    }
  }
}
