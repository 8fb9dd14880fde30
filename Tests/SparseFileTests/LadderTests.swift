// WRITE_ZEROES and TRIM: every rung of the ladder, by forcing the refusal of those above it.

import BlockBackend
import SparseFile
import Syscalls
import SystemPackage
import TestBackends
import Testing

private let mib: UInt64 = 1 << 20

private func always(_ answer: FileCallAnswer) -> [FileCallAnswer] { .init(repeating: answer, count: 1000) }
private let refused = always(.fail(.notSupported))

@Suite struct LadderTests {
  private struct Step {
    var refusals: [FileCall.Kind]
    var options: ZeroOptions
    /// The calls that change something, in order; nil: ENOTSUP.
    var calls: [FileCall.Kind]?
  }

  private func isChange(_ kind: FileCall.Kind) -> Bool {
    switch kind {
    case .punchHole, .zeroRange, .allocate, .write, .discard: true
    case .read, .readCached, .sync, .seekData, .seekHole, .mapExtents, .countCached, .willNeed, .pause: false
    }
  }

  /// Every rung, by forcing the refusal of those above it.
  @Test func eachRefusalLeadsToTheNextRung() throws {
    let steps: [Step] = [
      Step(refusals: [], options: [], calls: [.punchHole]),
      Step(refusals: [.punchHole], options: [], calls: [.punchHole, .zeroRange]),
      Step(refusals: [.punchHole, .zeroRange], options: [], calls: [.punchHole, .zeroRange, .write]),
      Step(refusals: [], options: .noHole, calls: [.zeroRange]),
      Step(refusals: [.zeroRange], options: .noHole, calls: [.zeroRange, .punchHole, .allocate]),
      Step(
        refusals: [.zeroRange, .allocate], options: .noHole, calls: [.zeroRange, .punchHole, .allocate, .write]),
      Step(refusals: [.zeroRange, .punchHole], options: .noHole, calls: [.zeroRange, .punchHole, .write]),
      Step(refusals: [], options: .fast, calls: [.punchHole]),
      Step(refusals: [.punchHole], options: .fast, calls: [.punchHole, .zeroRange]),
      Step(refusals: [.punchHole, .zeroRange], options: .fast, calls: nil),
      Step(refusals: [], options: [.fast, .noHole], calls: [.zeroRange]),
      Step(refusals: [.zeroRange], options: [.fast, .noHole], calls: nil),
    ]
    for step in steps {
      for errno in [Errno.notSupported, .noFunction] {
        try withFile(sizeBytes: mib) { path in
          var answers: [FileCall.Kind: [FileCallAnswer]] = [:]
          for kind in step.refusals { answers[kind] = always(.fail(errno)) }
          let script = Script(answers)
          let image = try ImageFile.open(path: path, hook: script.hook)
          try image.write(bytes(300_000), at: 0)
          script.forget()
          let range: Range<UInt64> = 1000..<200_000
          var wanted = bytes(300_000)
          if let calls = step.calls {
            try image.zero(range, step.options)
            #expect(script.calls.map(\.kind) == calls)
            wanted.replaceSubrange(1000..<200_000, with: repeatElement(0, count: range.count))
          } else {
            #expect(throws: BackendError(.notSupported, at: 1000)) { try image.zero(range, step.options) }
            #expect(!script.calls.contains { isChange($0.kind) && !step.refusals.contains($0.kind) })
          }
          #expect(try image.bytes(at: 0, 300_000) == wanted)
          // Asked once, remembered from then on.
          script.forget()
          try? image.zero(range, step.options)
          #expect(!script.calls.contains { step.refusals.contains($0.kind) })
        }
      }
    }
  }

  @Test(arguments: [Errno.ioError, .readOnlyFileSystem, .notPermitted, .noSpace])
  func errorsAreReturnedAndTurnNothingOff(errno: Errno) throws {
    try withFile(sizeBytes: mib) { path in
      let script = Script([.punchHole: [.fail(errno), .fail(errno), .perform], .zeroRange: [.fail(errno)]])
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.write(bytes(100_000), at: 0)
      #expect(throws: BackendError(errno, at: 4096)) { try image.zero(4096..<8192, []) }
      #expect(throws: BackendError(errno, at: 4096)) { try image.trim(4096..<8192) }
      #expect(throws: BackendError(errno, at: 4096)) { try image.zero(4096..<8192, .noHole) }
      #expect(try image.bytes(at: 0, 100_000) == bytes(100_000))
      script.forget()
      try image.trim(4096..<8192)
      #expect(script.calls.map(\.kind) == [.punchHole])
      #expect(try image.bytes(at: 4096, 4096) == [UInt8](repeating: 0, count: 4096))
    }
  }

  @Test func interruptedRungIsRepeated() throws {
    try withFile(in: "/dev/shm", sizeBytes: mib) { path in
      let script = Script([.allocate: [.fail(.interrupted), .fail(.resourceTemporarilyUnavailable)]])
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.write(bytes(100_000), at: 0)
      script.forget()
      try image.zero(0..<65_536, .noHole)
      #expect(script.calls(.allocate) == Array(repeating: 0..<65_536, count: 3))
      #expect(try image.bytes(at: 0, 65_536) == [UInt8](repeating: 0, count: 65_536))
    }
  }

  @Test func trimThatIsNotSupportedSucceedsAndDoesNothing() throws {
    try withFile(sizeBytes: mib) { path in
      let script = Script([.punchHole: refused])
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.write(bytes(100_000), at: 0)
      script.forget()
      try image.trim(0..<100_000)
      try image.trim(0..<100_000)
      #expect(script.calls.map(\.kind) == [.punchHole])
      #expect(try image.bytes(at: 0, 100_000) == bytes(100_000))
    }
  }

  /// Behind the first slice "unchanged" is gone, so the rest is zeroed whatever it costs.
  @Test func refusalInTheMiddleOfAFastZeroIsNotReported() throws {
    try withFile(sizeBytes: 64 * mib) { path in
      let script = Script([.punchHole: [.perform] + refused, .zeroRange: refused])
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.write(bytes(100_000), at: 32 * mib)
      try image.zero(0..<64 * mib, .fast)
      #expect(script.calls(.punchHole).count == 2)
      #expect(try image.bytes(at: 32 * mib, 100_000) == [UInt8](repeating: 0, count: 100_000))
    }
  }

  @Test func fastZeroWithoutHolesIsRefusedOnTmpfsBeforeAnythingIsPunched() throws {
    try withFile(in: "/dev/shm", sizeBytes: mib) { path in
      let script = Script()
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.write(bytes(100_000), at: 0)
      script.forget()
      #expect(throws: BackendError(.notSupported, at: 0)) { try image.zero(0..<100_000, [.fast, .noHole]) }
      #expect(script.calls.map(\.kind) == [.zeroRange])
      #expect(try image.bytes(at: 0, 100_000) == bytes(100_000))
    }
  }

  @Test(arguments: ["/tmp", "/dev/shm"]) func storageFollowsTheOptions(parent: String) throws {
    try withFile(in: parent, sizeBytes: 16 * mib) { path in
      let image = try ImageFile.open(path: path)
      func allocated() throws -> UInt64 { try Files.stat(path).allocatedBytes }
      try image.zero(0..<4 * mib, .noHole)
      #expect(try allocated() >= 4 * mib)
      try image.zero(0..<4 * mib, [])
      #expect(try allocated() < mib)
      try image.write(bytes(Int(mib)), at: 0)
      try image.sync()
      #expect(try allocated() >= mib)
      try image.trim(0..<mib)
      #expect(try allocated() < 65_536)
    }
  }

  /// I8: never more than asked.
  @Test func trimIsRoundedInward() throws {
    func sparesNeighbours(_ guards: GuardSwitches) throws -> Bool {
      try withFile(sizeBytes: mib) { path in
        let image = try ImageFile.open(path: path, guards: guards)
        try image.write(bytes(100_000), at: 0)
        try image.trim(5000..<20_000)
        let found = try image.bytes(at: 0, 100_000)
        #expect(found[8192..<16_384].allSatisfy { $0 == 0 })
        return found[..<5000] == bytes(100_000)[..<5000] && found[20_000...] == bytes(100_000)[20_000...]
      }
    }
    let proof = try GuardProof(.trimInward, holds: sparesNeighbours)
    #expect(proof.isSound, "\(proof)")
  }

  @Test func trimReachesAnOddEndOfTheImage() throws {
    try withFile(sizeBytes: 10_001) { path in
      let script = Script()
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.write(bytes(10_001), at: 0)
      try image.trim(4000..<10_001)
      #expect(script.calls(.punchHole) == [4096..<10_001])
      #expect(try image.bytes(at: 8192, 1809) == [UInt8](repeating: 0, count: 1809))
    }
  }

  @Test func trimWithoutAWholeBlockMakesNoCall() throws {
    try withFile(sizeBytes: mib) { path in
      let script = Script()
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.trim(1..<8191)
      try image.trim(4096..<8191)
      #expect(script.calls.isEmpty)
    }
  }

  @Test func longRangesGoInSlicesThatEndOnWholeMebibytes() throws {
    try withFile(sizeBytes: 1 << 40) { path in
      let script = Script([.punchHole: (0..<1000).map { _ in .perform }])
      let image = try ImageFile.open(path: path, hook: script.hook)
      try image.zero(12_345..<(3 << 30) + 17, [])
      let slices = script.calls(.punchHole)
      // Optionals stay out of the macro: its thunk for them reads beyond its stack (Swift 6.3.1, AddressSanitizer).
      let first = try #require(slices.first)
      let last = try #require(slices.last)
      #expect(first.lowerBound == 12_345)
      #expect(first.count <= 8 << 20)
      #expect(last.upperBound == (3 << 30) + 17)
      #expect(slices.dropLast().allSatisfy { $0.upperBound % mib == 0 })
      #expect(zip(slices, slices.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
    }
  }
}
