// The table [log].

import Logging

extension ConfigurationReader {
  func readLog(_ table: inout TableReader, _ plan: inout ServePlan) {
    if let (text, line) = table.string("format") {
      if let style = LogStyle(rawValue: text) {
        plan.log.style = style
      } else if text != "auto" {
        table.mistake(line, "\"format\": \"\(text)\" is not a format; write auto, text, json or journal")
      }
    }
    if let (text, line) = table.string("level") {
      if let level = Logger.Level(rawValue: text) {
        plan.log.level = level
      } else {
        let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
        table.mistake(line, "\"level\": \"\(text)\" is not a level; write one of \(levels)")
      }
    }
    if let (text, line) = table.string("slow-operation") {
      do throws(TimeMistake) { plan.log.slowOperationMilliseconds = try milliseconds(parsing: text) } catch {
        table.mistake(line, "\"slow-operation\": \(error.clause)")
      }
    }
  }
}
