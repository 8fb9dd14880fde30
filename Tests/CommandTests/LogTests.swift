// One event is one line.

import Logging
import Syscalls
import Testing

@testable import holdfast

@Suite struct LogLines {
  let time = WallClockTime(seconds: 1_795_253_462, milliseconds: 7)

  @Test func plainLinesHaveTimeAndLevel() {
    #expect(logLine(.plain, at: time, .warning, "careful") == "2026-11-21T09:31:02.007Z warning: careful\n")
  }

  @Test func journalLinesHaveAPriority() {
    #expect(logLine(.journal, at: time, .error, "broken") == "<3>broken\n")
    #expect(logLine(.journal, at: time, .info, "fine") == "<6>fine\n")
  }

  @Test func noEventMakesASecondLine() {
    #expect(logLine(.journal, at: time, .info, "a\n<0>b\u{1b}[31m") == "<6>a\\n<0>b\\u{1B}[31m\n")
  }

  @Test func metadataIsOrderedAndQuoted() {
    #expect(metadataText(["b": "x y", "a": "1", "c": "", "d": "q\"r"]) == "a=1 b=\"x y\" c=\"\" d=\"q\\\"r\"")
  }

  @Test(arguments: [
    (0, "1970-01-01T00:00:00.000Z"), (951_782_400, "2000-02-29T00:00:00.000Z"),
    (4_107_542_399, "2100-02-28T23:59:59.000Z"), (4_107_542_400, "2100-03-01T00:00:00.000Z"),
    (-1, "1969-12-31T23:59:59.000Z"),
  ])
  func timestampsAreUTC(seconds: Int, text: String) {
    #expect(timestamp(WallClockTime(seconds: seconds, milliseconds: 0)) == text)
  }
}
