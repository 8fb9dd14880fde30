// How rules are written, and the exact text of every complaint.

import BlockBackend
import Faults
import SystemPackage
import Testing

private func rule(_ text: String) throws -> FaultRule { try FaultRule(parsing: text) }

private func complaint(_ text: String) -> String? {
  do throws(FaultRuleMistake) {
    _ = try FaultRule(parsing: text)
    return nil
  } catch { return error.clause }
}

@Suite struct FaultRuleTextTests {
  @Test func everyPartIsRead() throws {
    var wanted = FaultRule(text: "", kinds: [.write, .sync])
    wanted.text = "write+sync:error=ENOSPC,delay=1.5s,nth=3,times=9,probability=25%,seed=7"
    wanted.effect = .fail(.noSpace)
    wanted.delay = .milliseconds(1500)
    (wanted.nth, wanted.timesMax, wanted.probability, wanted.seed) = (3, 9, 0.25, 7)
    #expect(try rule(wanted.text) == wanted)
    #expect(try rule("read:delay=2,range=4k-1M").range == 4096..<1 << 20)
    #expect(try rule("read:delay=2").delay == .seconds(2))
    #expect(try rule("read:delay=50us,range=1G-").range == 1 << 30..<UInt64.max)
    #expect(try rule("write:short=512,probability=0.1,seed=7").effect == .short(bytes: 512))
    #expect(try rule("sync:lose").effect == .lose)
    #expect(try rule("write:enospc-until-trimmed").effect == .fullUntilTrimmed)
  }

  @Test func callsAreNamedByCommandOrBySystemCall() throws {
    #expect(try rule("trim:error=EIO").kinds == [.punchHole, .discard])
    #expect(try rule("zero:error=EIO").kinds == [.punchHole, .zeroRange, .allocate])
    #expect(try rule("status:error=EIO").kinds == [.seekData, .seekHole, .mapExtents])
    #expect(try rule("punch+map:error=EIO").kinds == [.punchHole, .mapExtents])
    #expect(try !rule("any:error=EIO").kinds.contains(.pause))
  }

  @Test func aRuleThatSaysWhichCallHitsThatOne() throws {
    #expect(try rule("write:error=EIO").timesMax == nil)
    #expect(try rule("write:error=EIO,nth=3").timesMax == 1)
    #expect(try rule("write:error=EIO,nth=3,times=2").timesMax == 2)
    #expect(try rule("write:error=EIO,nth=3,probability=0.5").timesMax == nil)
    #expect(try rule("write:enospc-until-trimmed").timesMax == 1)
  }

  /// A rule for several calls is about those of them that it can be about.
  @Test func callsThatTheFaultCannotHitAreLeftOut() throws {
    #expect(try rule("zero:enospc-until-trimmed").kinds == [.zeroRange, .allocate])
    #expect(try rule("any:lose").kinds == [.write, .punchHole, .discard, .zeroRange, .allocate, .sync])
    #expect(try rule("write+sync:short=1").kinds == [.write])
    #expect(try rule("any:error=EIO,range=0-1").kinds.contains(.sync) == false)
  }

  static let complaints: [(String, String)] = [
    ("", "\"\" names no call; write CALLS:FAULT, such as write:error=EIO"),
    ("error=EIO", "\"error=EIO\" names no call; write CALLS:FAULT, such as write:error=EIO"),
    (":error=EIO", "\":error=EIO\" names no call; write CALLS:FAULT, such as write:error=EIO"),
    (
      "wrte:error=EIO",
      "\"wrte\" in \"wrte:error=EIO\" is not a call; write read, write, trim, zero, sync, status, cache, any, punch, "
        + "discard, zero-range, allocate, seek or map"
    ),
    (
      "write+:error=EIO",
      "\"\" in \"write+:error=EIO\" is not a call; write read, write, trim, zero, sync, status, cache, any, punch, "
        + "discard, zero-range, allocate, seek or map"
    ),
    (
      "write:eror=EIO",
      "\"eror\" in \"write:eror=EIO\" is not known; write error, delay, short, lose, enospc-until-trimmed, nth, times, "
        + "range, probability or seed"
    ),
    (
      "write:error=EOI",
      "\"EOI\" in \"write:error=EOI\" is not an error; write EACCES, EAGAIN, EBADF, EBUSY, EDQUOT, EFBIG, EINTR, EINVAL, "
        + "EIO, ENODEV, ENOMEM, ENOSPC, ENXIO, EOPNOTSUPP, EOVERFLOW, EPERM, EROFS, ESTALE or ETIMEDOUT"
    ),
    ("write:error", "\"error\" in \"write:error\" has no value; write error=EIO"),
    ("write:delay=", "\"delay\" in \"write:delay=\" has no value; write delay=200ms"),
    (
      "write:nth=3",
      "\"write:nth=3\" says when, but not what; add error=EIO, delay=200ms, short=512, lose or enospc-until-trimmed"
    ),
    (
      "write:error=EIO,short=1",
      "\"write:error=EIO,short=1\" wants two faults in one call; give two rules, or leave one out"
    ),
    ("write:error=EIO,error=EIO", "\"write:error=EIO,error=EIO\" has error twice; leave one out"),
    ("read:error=EINTR", "\"read:error=EINTR\" never ends: after EINTR a call is tried again; add times=3"),
    (
      "sync:error=EINTR,nth=1,probability=100%",
      "\"sync:error=EINTR,nth=1,probability=100%\" never ends: after EINTR a call is tried again; add times=3"
    ),
    // Capitals of this letter are two.
    ("write:short=1ß", "\"1ß\" in \"write:short=1ß\" is not a size; write bytes, or a number with K, M, G or T"),
    ("sync:short=1", "\"sync\" in \"sync:short=1\" is not done in parts; short is for read, write, trim and zero"),
    (
      "read+seek:lose",
      "\"read+seek\" in \"read+seek:lose\" changes nothing that could be lost; lose is for write, trim, zero and sync"
    ),
    ("sync:lose=yes", "\"lose\" in \"sync:lose=yes\" takes no value; write lose"),
    (
      "trim:enospc-until-trimmed",
      "\"trim\" in \"trim:enospc-until-trimmed\" needs no space; enospc-until-trimmed is for write, allocate and zero"
    ),
    ("sync:lose,range=0-1", "\"sync\" in \"sync:lose,range=0-1\" has no place in the image; leave range out"),
    (
      "write:error=EIO,seed=7",
      "\"write:error=EIO,seed=7\" has a seed and nothing to draw; add probability=10%, or leave it out"
    ),
    ("write:error=EIO,nth=0", "\"nth=0\" in \"write:error=EIO,nth=0\" is not a count; write 1 or more"),
    ("write:error=EIO,times=x", "\"times=x\" in \"write:error=EIO,times=x\" is not a count; write 1 or more"),
    ("write:short=-1", "\"-1\" in \"write:short=-1\" is not a size; write bytes, or a number with K, M, G or T"),
    (
      "write:short=99999999T",
      "\"99999999T\" in \"write:short=99999999T\" is not a size; write bytes, or a number with K, M, G or T"
    ),
    (
      "write:error=EIO,range=5",
      "\"range=5\" in \"write:error=EIO,range=5\" is not a range; write FROM-TO or FROM-, such as 1M-2M"
    ),
    (
      "write:error=EIO,range=2M-1M",
      "\"range=2M-1M\" in \"write:error=EIO,range=2M-1M\" is empty; the byte behind the last one comes after the first"
    ),
    (
      "write:error=EIO,probability=2",
      "\"probability=2\" in \"write:error=EIO,probability=2\" is not a share of calls; write 0.1 or 10%, at most 1 or 100%"
    ),
    (
      "write:delay=fast",
      "\"delay=fast\" in \"write:delay=fast\" is not a time; write 50us, 200ms or 1.5s, at most a day"
    ),
    ("write:delay=2d", "\"delay=2d\" in \"write:delay=2d\" is not a time; write 50us, 200ms or 1.5s, at most a day"),
  ]

  @Test(arguments: complaints) func everyMistakeIsASentence(text: String, wanted: String) {
    #expect(complaint(text) == wanted)
  }
}
