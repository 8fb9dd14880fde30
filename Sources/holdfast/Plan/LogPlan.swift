// What the log looks like and what goes into it.

import Logging

struct LogPlan: Equatable, Sendable {
  /// Nil: journal when standard error goes there, else text.
  var style: LogStyle?
  /// Nil: info.
  var level: Logger.Level?
  /// Requests in flight for longer are told of, milliseconds; nil: none.
  var slowOperationMilliseconds: Int? = LogPlan.slowOperationMillisecondsDefault

  static let slowOperationMillisecondsDefault = 5000

  /// What the command line says goes before what the file says.
  func overridden(style: LogStyle?, level: Logger.Level?) -> LogPlan {
    var plan = self
    plan.style = style ?? self.style
    plan.level = level ?? self.level
    return plan
  }
}

/// Why something is not a time: a clause that names what was read and says what to write.
struct TimeMistake: Error, Equatable {
  var clause: String
}

/// `500ms`, `5s`, `2min`; `0s` and `off` are nil.
func milliseconds(parsing text: String) throws(TimeMistake) -> Int? {
  if text == "off" { return nil }
  let digits = text.prefix { $0.isASCII && $0.isNumber }
  let units = ["ms": 1, "s": 1000, "min": 60_000]
  guard let number = Int(digits), let unit = units[String(text.dropFirst(digits.count))], number <= 86_400_000 / unit
  else {
    throw TimeMistake(clause: "\"\(text)\" is not a time; write 500ms, 5s or 2min, at most a day, or off")
  }
  return number == 0 ? nil : number * unit
}
