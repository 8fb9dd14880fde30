// Reading, writing and syncing with forced short counts, EINTR, EAGAIN and errors.

import BlockBackend
import Foundation
import Locking
import SparseFile
import SystemPackage
import TestBackends
import Testing

/// Answers calls from a script; what the script has no answer for is performed. Records every call.
final class Script: Sendable {
  private let state = Locked<(calls: [FileCall], answers: [FileCall.Kind: [FileCallAnswer]])>(([], [:]))

  init(_ answers: [FileCall.Kind: [FileCallAnswer]] = [:]) { state.withLock { $0.answers = answers } }

  var hook: @Sendable (FileCall) -> FileCallAnswer {
    { call in
      self.state.withLock { state in
        state.calls.append(call)
        guard let next = state.answers[call.kind]?.first else { return .perform }
        state.answers[call.kind]?.removeFirst()
        return next
      }
    }
  }

  var calls: [FileCall] { state.withLock { $0.calls } }
  func calls(_ kind: FileCall.Kind) -> [Range<UInt64>] {
    calls.filter { $0.kind == kind }.map { $0.offset..<$0.offset + $0.length }
  }
  func forget() { state.withLock { $0.calls = [] } }
}

func bytes(_ count: Int, _ salt: Int = 0) -> [UInt8] { (0..<count).map { UInt8(($0 * 7 + salt) % 251) + 1 } }

@Suite struct DataTests {
  // MARK: Reading

  @Test func readGoesOnAfterShortCountsAndInterruptions() throws {
    try withFile(sizeBytes: 100_000) { path in
      let script = Script([.read: [.performOnly(bytes: 10), .fail(.interrupted), .performOnly(bytes: 1000)]])
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.write(bytes(50_000), at: 100)
      #expect(try image.bytes(at: 100, 50_000) == bytes(50_000))
      #expect(script.calls(.read) == [100..<50_100, 110..<50_100, 110..<50_100, 1110..<50_100])
    }
  }

  @Test func readOfAFileCutByOthersIsAnErrorAtThatByteAndNeverZeroes() throws {
    try withFile(sizeBytes: 100_000) { path in
      let image = try ImageFile.open(path: path)
      try image.write(bytes(100_000), at: 0)
      try setSize(path, 50_001)
      #expect(throws: BackendError(.ioError, at: 50_001)) { try image.bytes(at: 40_000, 20_000) }
      #expect(throws: BackendError(.ioError, at: 60_000)) { try image.bytes(at: 60_000, 1) }
      #expect(try image.bytes(at: 50_000, 1) == [bytes(100_000)[50_000]])
    }
  }

  @Test func readGivesUpAfterTenAttempts() throws {
    try withFile(sizeBytes: 8192) { path in
      let tryAgain = [FileCallAnswer](repeating: .fail(.resourceTemporarilyUnavailable), count: 11)
      let script = Script([.read: tryAgain, .pause: [FileCallAnswer](repeating: .pretend(0), count: 20)])
      let image = try ImageFile.open(path: path, hook: script.hook)
      #expect(throws: BackendError(.ioError, at: 4096)) { try image.bytes(at: 4096, 10) }
      #expect(script.calls.filter { $0.kind == .pause }.map(\.length) == Array(1...10))
      #expect(try image.bytes(at: 4096, 10) == [UInt8](repeating: 0, count: 10))
    }
  }

  @Test func cachedReadIsRefusedOnceAndNotAskedAgain() throws {
    try withFile(sizeBytes: 8192) { path in
      let script = Script([.readCached: [.fail(.resourceTemporarilyUnavailable), .fail(.notSupported)]])
      let image = try ImageFile.open(path: path, hook: script.hook)
      var buffer = IOBuffer(count: 4096)
      var span = buffer.mutableBytes
      for _ in 0..<4 { #expect(try image.readCached(into: &span, at: 0) == 0) }
      #expect(script.calls(.readCached).count == 2)
    }
  }

  /// I1. The story: a probe on the same descriptor moved the offset under a reader.
  @Test func probeBetweenPositionAndReadHarmsNothing() throws {
    func readsRight(_ guards: GuardSwitches) throws -> Bool {
      try withFile(sizeBytes: 1 << 20) { path in
        let probe = Locked<(@Sendable () -> Void)?>(nil)
        let image = try ImageFile.open(path: path, guards: guards) { call in
          if call.kind == .read { probe.withLock { $0 }?() }
          return .perform
        }
        try image.write(bytes(4096), at: 65_536)
        try image.write(bytes(4096, 1), at: 524_288)
        // Finds the second data run, and leaves the offset of its descriptor there.
        probe.withLock { $0 = { _ = try? image.extents(of: 131_072..<1 << 20, extentsMax: 9) } }
        defer { probe.withLock { $0 = nil } }
        return try image.bytes(at: 65_536, 4096) == bytes(4096)
      }
    }
    let proof = try GuardProof(.ownProbeDescriptor, holds: readsRight)
    #expect(proof.isSound, "\(proof)")
  }

  // MARK: Writing

  /// I2. The story: after a short write the whole was written again behind what was there.
  @Test func shortWriteIsContinuedWithExactlyTheRest() throws {
    func writesRight(_ guards: GuardSwitches) throws -> Bool {
      try withFile(sizeBytes: 100_000) { path in
        let script = Script([.write: [.performOnly(bytes: 1000), .fail(.interrupted)]])
        let image = try ImageFile.open(path: path, guards: guards, hook: script.hook)
        try image.write(bytes(20_000), at: 512)
        let around = try image.bytes(at: 0, 40_000)
        return around == [UInt8](repeating: 0, count: 512) + bytes(20_000) + [UInt8](repeating: 0, count: 19_488)
      }
    }
    let proof = try GuardProof(.resumeAfterShortWrite, holds: writesRight)
    #expect(proof.isSound, "\(proof)")
  }

  @Test(arguments: [Errno.noSpace, .ioError, .fileTooLarge, .diskQuotaExceeded])
  func writeErrorNamesTheFirstByteThatIsMissing(errno: Errno) throws {
    try withFile(sizeBytes: 8192) { path in
      let script = Script([.write: [.performOnly(bytes: 100), .fail(errno)]])
      let image = try ImageFile.open(path: path, hook: script.hook)
      #expect(throws: BackendError(errno, at: 4196)) { try image.write(bytes(500), at: 4096) }
    }
  }

  @Test func nothingWrittenIsAnErrorAndNotALoop() throws {
    try withFile(sizeBytes: 8192) { path in
      let image = try ImageFile.open(path: path, hook: Script([.write: [.pretend(0)]]).hook)
      #expect(throws: BackendError(.ioError, at: 5)) { try image.write([1], at: 5) }
    }
  }

  @Test func interruptedSyncIsRepeatedAndFailedSyncIsNot() throws {
    try withFile(sizeBytes: 8192) { path in
      let script = Script([.sync: [.fail(.interrupted), .fail(.interrupted), .perform, .fail(.ioError)]])
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.sync()
      #expect(script.calls(.sync).count == 3)
      #expect(throws: BackendError(.ioError)) { try image.sync() }
      #expect(script.calls(.sync).count == 4)
    }
  }

  @Test func cacheAsksForThePagesAndNeverFails() throws {
    try withFile(sizeBytes: 1 << 20) { path in
      let script = Script([.willNeed: [.perform, .perform, .fail(.ioError)]])
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.cache(1000..<1_000_000)
      let asked = script.calls(.willNeed)
      #expect(asked.first?.lowerBound == 1000)
      #expect(asked.count == 3)
    }
  }

  // MARK: Around the limits at which real servers lost bytes

  static let lengths: [Int] = [64 << 20, 2 << 30, 4 << 30].flatMap { limit in
    [-4097, -1, 0, 1, 4096, 65_537].map { limit + $0 }
  }

  /// Every byte once, in order: each call starts where the last one ended.
  private func isOnceEach(_ calls: [Range<UInt64>], _ range: Range<UInt64>, pieceBytesMax: UInt64) -> Bool {
    var next = range.lowerBound
    for call in calls {
      guard call.lowerBound == next, !call.isEmpty, call.count <= pieceBytesMax else { return false }
      next = call.upperBound
    }
    return next == range.upperBound
  }

  @Test(arguments: lengths) func everyVerbDoesEveryByteOnce(length: Int) throws {
    try withFile(sizeBytes: 16 << 30) { path in
      let calls = Locked<[FileCall]>([])
      let image = try ImageFile.open(path: path) { call in
        calls.withLock { $0.append(call) }
        return .pretend(call.length)
      }
      let start: UInt64 = 3 << 30 | 4096
      let range = start..<start + UInt64(length)
      func made(_ kind: FileCall.Kind) -> [Range<UInt64>] {
        calls.withLock { calls in
          defer { calls = [] }
          #expect(calls.allSatisfy { $0.kind == kind }, "\(kind): other calls as well")
          return calls.map { $0.offset..<$0.offset + $0.length }
        }
      }
      try unsafe withAddresses(length) { addresses in
        try image.write(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(addresses)), at: start)
        #expect(isOnceEach(made(.write), range, pieceBytesMax: 0x7fff_f000))
        var target = unsafe MutableRawSpan(_unsafeBytes: addresses)
        try image.read(into: &target, at: start)
      }
      #expect(isOnceEach(made(.read), range, pieceBytesMax: 0x7fff_f000))
      try image.zero(range, [])
      #expect(isOnceEach(made(.punchHole), range, pieceBytesMax: 1 << 30))
      try image.zero(range, .noHole)
      #expect(isOnceEach(made(.zeroRange), range, pieceBytesMax: 1 << 30))
      try image.trim(range)
      let inward = start..<range.upperBound / 4096 * 4096
      #expect(isOnceEach(made(.punchHole), inward, pieceBytesMax: 1 << 30))
    }
  }

  @Test(arguments: lengths.filter { $0 <= 2 << 30 }) func writtenZeroesReachTheEndOfTheRange(length: Int) throws {
    try withFile(sizeBytes: 16 << 30) { path in
      let written = Locked<[Range<UInt64>]>([])
      let image = try ImageFile.open(path: path) { call in
        guard call.kind == .write else { return .fail(.notSupported) }
        written.withLock { $0.append(call.offset..<call.offset + call.length) }
        return .pretend(call.length)
      }
      let range = 12_345..<12_345 + UInt64(length)
      try image.zero(range, .noHole)
      #expect(isOnceEach(written.withLock { $0 }, range, pieceBytesMax: 1 << 20))
    }
  }
}
