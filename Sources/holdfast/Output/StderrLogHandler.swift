// swift-log to standard error, one line and one write per event.

import Logging
import Syscalls
import SystemPackage

struct StderrLogHandler: LogHandler {
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?
  let style: LogStyle

  init(style: LogStyle, level: Logger.Level) {
    self.style = style
    logLevel = level
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    var all = metadata
    if let provided = metadataProvider?.get() { all.merge(provided) { _, new in new } }
    if let own = event.metadata { all.merge(own) { _, new in new } }
    writeToStandardError(logLine(style, at: .now(), event.level, "\(event.message)", all))
  }
}

extension LogStyle {
  /// journald names the device and inode of the stream that it reads in JOURNAL_STREAM; standard error may since have
  /// been redirected, so they are compared.
  static func ofStandardError() -> LogStyle {
    guard let stream = environmentVariable("JOURNAL_STREAM") else { return .plain }
    guard let stat = try? FileDescriptor.standardError.stat() else { return .plain }
    return stream == "\(stat.deviceID.rawValue):\(stat.inode.rawValue)" ? .journal : .plain
  }
}

/// A log that cannot be written must not stop the server, so failures are dropped.
func writeToStandardError(_ text: String) {
  _ = try? FileDescriptor.standardError.writeAll(text.utf8)
}

func writeToStandardOutput(_ text: String) throws(CommandFailure) {
  do {
    _ = try FileDescriptor.standardOutput.writeAll(text.utf8)
  } catch {
    throw CommandFailure(.ioError, "cannot write to standard output: \(error)")
  }
}
