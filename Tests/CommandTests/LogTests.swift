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

  @Test func jsonLinesHaveEveryField() {
    let line = logLine(
      .json, at: time, .warning, "it \"broke\"\n",
      ["offset": .stringConvertible(UInt64(4096)), "export": "a", "level": "x"])
    #expect(
      line == "{\"time\":\"2026-11-21T09:31:02.007Z\",\"level\":\"warning\",\"message\":\"it \\\"broke\\\"\\n\","
        + "\"export\":\"a\",\"offset\":4096}\n")
  }

  /// The sentence says the rest.
  @Test func peopleAreToldWhereItHappened() {
    let fields: Logger.Metadata = ["offset": "1", "export": "a b", "connection": .stringConvertible(3), "errno": "5"]
    #expect(
      logLine(.plain, at: time, .info, "x", fields) == "2026-11-21T09:31:02.007Z info: x connection=3 export=\"a b\"\n")
  }

  @Test(arguments: [("500ms", 500), ("5s", 5000), ("2min", 120_000), ("0s", nil), ("off", nil), ("86400s", 86_400_000)])
  func timesAreRead(text: String, expected: Int?) throws { #expect(try milliseconds(parsing: text) == expected) }

  @Test(arguments: ["", "5", "s", "-1s", "1.5s", "5 s", "86401s", "99999999999999999999s", "5h"])
  func whatIsNoTimeIsRefused(text: String) { #expect(throws: TimeMistake.self) { try milliseconds(parsing: text) } }

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
