// What becomes of calls under each kind of rule. Pure: no file, no clock.

import BlockBackend
import Faults
import SystemPackage
import Testing

private func injection(_ rules: String...) throws -> FaultInjection {
  FaultInjection(try rules.map { try FaultRule(parsing: $0) })
}

private func call(_ kind: FileCall.Kind, _ offset: UInt64 = 0, _ length: UInt64 = 4096) -> FileCall {
  FileCall(kind: kind, offset: offset, length: length)
}

extension FaultInjection {
  fileprivate mutating func answers(_ calls: FileCall...) -> [FileCallAnswer] { calls.map { answer($0) } }
  fileprivate mutating func writes(_ count: Int) -> [FileCallAnswer] {
    (0..<count).map { _ in answer(call(.write)) }
  }
}

@Suite struct FaultInjectionTests {
  @Test func theNthCallOfAKindFailsAndNoOther() throws {
    var faults = try injection("write:error=EIO,nth=2")
    #expect(
      faults.answers(call(.write), call(.read), call(.write), call(.write)) == [
        .perform, .perform, .fail(.ioError), .perform,
      ])
  }

  @Test func failuresEndAfterTheirNumber() throws {
    var faults = try injection("write:error=EINTR,nth=2,times=2")
    #expect(faults.writes(5) == [.perform, .fail(.interrupted), .fail(.interrupted), .perform, .perform])
  }

  @Test func onlyCallsThatTouchTheRangeAreCounted() throws {
    var faults = try injection("any:error=EIO,range=4096-8192,nth=2")
    #expect(faults.answers(call(.write, 0), call(.write, 8192), call(.sync, 0, 0)) == [.perform, .perform, .perform])
    #expect(faults.answers(call(.read, 4095, 2), call(.read, 8191, 1)) == [.perform, .fail(.ioError)])
    var seeks = try injection("seek:error=EIO,range=4096-8192")
    #expect(seeks.answers(call(.seekData, 4095, 0), call(.seekHole, 4096, 0)) == [.perform, .fail(.ioError)])
    var end = try injection("read:error=EIO,range=8388608T-")
    _ = end.answer(call(.read, .max, .max))
  }

  @Test func delaysAddUpAndTheFirstEffectDecides() throws {
    var faults = try injection("any:delay=1ms", "write:delay=2ms,error=EIO", "write:error=ENOSPC,nth=1")
    #expect(faults.answer(call(.write)) == .delay(.milliseconds(3), then: .fail(.ioError)))
    #expect(faults.answer(call(.read)) == .delay(.milliseconds(1), then: .perform))
    // The third rule has not seen the first write.
    var behind = try injection("write:error=EIO,nth=1", "write:error=ENOSPC,nth=1")
    #expect(behind.writes(3) == [.fail(.ioError), .fail(.noSpace), .perform])
  }

  @Test func shortIsAtMostThatManyBytes() throws {
    var faults = try injection("write:short=512")
    #expect(faults.answers(call(.write), call(.write, 0, 512)) == [.performOnly(bytes: 512), .perform])
    var nothing = try injection("write:short=0,nth=1")
    #expect(nothing.answer(call(.write)) == .pretend(0))
  }

  @Test func whatIsLostSucceeds() throws {
    var faults = try injection("sync+write:lose")
    #expect(faults.answers(call(.sync, 0, 0), call(.write)) == [.pretend(0), .pretend(4096)])
  }

  @Test func aFullImageIsFullUntilItIsTrimmed() throws {
    var faults = try injection("write:enospc-until-trimmed,nth=2")
    let full = FileCallAnswer.fail(.noSpace)
    #expect(faults.writes(4) == [.perform, full, full, full])
    #expect(faults.answer(call(.punchHole)) == .perform)
    #expect(faults.writes(3) == [.perform, .perform, .perform])
  }

  @Test func aTrimThatFailsFreesNothing() throws {
    var faults = try injection("write:enospc-until-trimmed,times=2", "trim:error=EIO,nth=1")
    #expect(faults.writes(1) == [.fail(.noSpace)])
    #expect(faults.answer(call(.punchHole)) == .fail(.ioError))
    #expect(faults.writes(1) == [.fail(.noSpace)])
    #expect(faults.answer(call(.discard)) == .perform)
    // It gets full a second time, and then no more.
    #expect(faults.writes(1) == [.fail(.noSpace)])
    _ = faults.answer(call(.punchHole))
    #expect(faults.writes(1) == [.perform])
  }

  @Test func aReadWithoutWaitingDoesNotGoAroundARule() throws {
    var faults = try injection("read:error=EIO,nth=2")
    #expect(
      faults.answers(call(.readCached), call(.read), call(.readCached), call(.read)) == [
        .fail(.resourceTemporarilyUnavailable), .perform, .fail(.resourceTemporarilyUnavailable), .fail(.ioError),
      ])
    var others = try injection("write:error=EIO")
    #expect(others.answer(call(.readCached)) == .perform)
  }

  @Test func theSameSeedHitsTheSameCalls() throws {
    func hits(_ rule: String) throws -> [Bool] {
      var faults = try injection(rule)
      return faults.writes(10_000).map { $0 != .perform }
    }
    let first = try hits("write:error=EIO,probability=10%,seed=7")
    #expect(first == (try hits("write:error=EIO,probability=0.1,seed=7")))
    #expect(first != (try hits("write:error=EIO,probability=10%,seed=8")))
    // Ten standard deviations.
    #expect((700...1300).contains(first.count { $0 }))
    #expect(try hits("write:error=EIO,probability=10%,times=5").count { $0 } == 5)
  }
}
