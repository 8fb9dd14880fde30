// How a log event becomes one line. Pure; what a client chose (names, addresses) cannot break out of its line.

import Logging
import Reports
import Syscalls

enum LogStyle: String, Sendable, CaseIterable {
  /// `<4>text`: the priority prefix that journald reads (sd-daemon(3)); it adds the time itself.
  case journal
  /// `2026-11-21T09:31:02.123Z warning: text`.
  case plain = "text"
  /// `{"time":"2026-11-21T09:31:02.123Z","level":"warning","message":"text","connection":3}`.
  case json
}

/// One line with its line end.
func logLine(
  _ style: LogStyle, at time: WallClockTime, _ level: Logger.Level, _ text: String, _ fields: Logger.Metadata = [:]
) -> String {
  switch style {
  case .journal: "<\(level.journalPriority)>\(withoutControlCharacters(text + fieldsText(fields)))\n"
  case .plain: "\(timestamp(time)) \(level): \(withoutControlCharacters(text + fieldsText(fields)))\n"
  case .json: jsonLine(at: time, level, text, fields)
  }
}

/// What people are told beside the sentence: where it happened. The other fields stand in the sentence already.
private let fieldsForPeople: Set<String> = ["connection", "peer", "export"]

private func fieldsText(_ fields: Logger.Metadata) -> String {
  let shown = fields.filter { fieldsForPeople.contains($0.key) }
  return shown.isEmpty ? "" : " \(metadataText(shown))"
}

/// Every field, numbers as numbers; a field cannot take the place of time, level or message.
private func jsonLine(at time: WallClockTime, _ level: Logger.Level, _ text: String, _ fields: Logger.Metadata)
  -> String
{
  var parts = [
    ("time", jsonString(timestamp(time))), ("level", jsonString("\(level)")), ("message", jsonString(text)),
  ]
  for (key, value) in fields.sorted(by: { $0.key < $1.key }) where !["time", "level", "message"].contains(key) {
    if case .stringConvertible(let number) = value, number is any BinaryInteger {
      parts.append((key, "\(number)"))
    } else {
      parts.append((key, jsonString("\(value)")))
    }
  }
  return "{\(parts.map { "\(jsonString($0)):\($1)" }.joined(separator: ","))}\n"
}

extension Logger.Level {
  /// syslog(3) priority.
  var journalPriority: Int {
    switch self {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }
}

/// `key=value` pairs in the order of their keys; a value with a space or quote in it is quoted.
func metadataText(_ metadata: Logger.Metadata) -> String {
  metadata.sorted { $0.key < $1.key }.map { key, value in
    let text = "\(value)"
    let isPlain = !text.isEmpty && !text.contains { $0 == " " || $0 == "\"" || $0 == "=" }
    return isPlain
      ? "\(key)=\(text)"
      : "\(key)=\"\(text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\""))\""
  }.joined(separator: " ")
}

/// `\n` and its like as `\u{A}`.
func withoutControlCharacters(_ text: String) -> String {
  guard text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else { return text }
  return text.unicodeScalars.map { scalar in
    scalar.properties.generalCategory == .control ? scalar.escaped(asASCII: true) : String(scalar)
  }.joined()
}

/// ISO 8601, UTC.
func timestamp(_ time: WallClockTime) -> String {
  let secondsPerDay = 86_400
  let days = (time.seconds - floorModulo(time.seconds, secondsPerDay)) / secondsPerDay
  let second = floorModulo(time.seconds, secondsPerDay)
  let (year, month, day) = civilDate(daysSince1970: days)
  let clock = [second / 3600, second / 60 % 60, second % 60].map { padded($0, 2) }.joined(separator: ":")
  return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))T\(clock).\(padded(time.milliseconds, 3))Z"
}

/// The Gregorian date, counted in eras of 400 years that begin on 1 March, so that the leap day comes last.
private func civilDate(daysSince1970: Int) -> (year: Int, month: Int, day: Int) {
  let daysPerEra = 146_097
  let shifted = daysSince1970 + 719_468  // 0000-03-01
  let dayOfEra = floorModulo(shifted, daysPerEra)
  let era = (shifted - dayOfEra) / daysPerEra
  let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
  let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
  let monthFromMarch = (5 * dayOfYear + 2) / 153
  let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
  let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
  return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
}

private func floorModulo(_ value: Int, _ divisor: Int) -> Int {
  let remainder = value % divisor
  return remainder < 0 ? remainder + divisor : remainder
}

private func padded(_ value: Int, _ width: Int) -> String {
  let digits = String(value)
  return String(repeating: "0", count: max(0, width - digits.count)) + digits
}
