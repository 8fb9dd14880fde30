// What the log says about requests and connections: fields that programs can read, beside a sentence for people.

import Logging
import NBDProtocol
import NBDServerCore
import Synchronization

extension Connection {
  /// Says which connection it was. A logger of its own for each would be a third of what a connection costs.
  func log(
    _ level: Logger.Level, _ message: @autoclosure () -> String, _ fields: @autoclosure () -> Logger.Metadata = [:]
  ) {
    guard server.logger.logLevel <= level else { return }
    var metadata = fields()
    metadata["connection"] = .stringConvertible(id.rawValue)
    metadata["peer"] = "\(peer)"
    server.logger.log(level: level, "\(message())", metadata: metadata)
  }

  /// The client was refused what it asked for. If it gets nothing else, this is why.
  func noteRefusal(_ failure: HandshakeFailure) { refusal.store(failure.number, ordering: .relaxed) }

  /// The handshake ends without an export; nil: as the client wished, if it was not refused one before.
  func note(_ failure: HandshakeFailure?) {
    let refused = HandshakeFailure(number: refusal.load(ordering: .relaxed))
    guard !handshakeIsCounted.exchange(true, ordering: .relaxed), let failure = refused ?? failure else { return }
    server.statistics.note(failure)
  }

  /// The fields of a line about `request`.
  func metadata(_ request: Request, _ transmission: Transmission) -> Logger.Metadata {
    var fields: Logger.Metadata = [
      "connection": .stringConvertible(id.rawValue), "peer": "\(peer)", "export": "\(transmission.session.export.name)",
      "command": "\(CountedCommand(request.command)?.label ?? request.command.specName)",
    ]
    if request.command.rule.hasRange {
      fields["offset"] = .stringConvertible(transmission.clientOffset(of: request))
      fields["length"] = .stringConvertible(request.length)
    }
    return fields
  }

  /// One line about all that it was answered; when it is closed.
  func logSummary(_ transmission: Transmission) {
    guard server.logger.logLevel <= .info else { return }
    let counts = transmission.statistics.counts
    let seconds = Double(server.nowMilliseconds() - acceptedMilliseconds) / 1000
    let summary = ConnectionSummary(counts: counts, seconds: seconds)
    var fields: Logger.Metadata = [
      "export": "\(transmission.session.export.name)", "seconds": "\(durationText(seconds: seconds))",
      "requests": .stringConvertible(counts.total.requests), "errors": .stringConvertible(counts.total.errors),
    ]
    for command in CountedCommand.allCases where counts[command].requests > 0 {
      fields["\(command.label)_requests"] = .stringConvertible(counts[command].requests)
      if counts[command].bytes > 0 { fields["\(command.label)_bytes"] = .stringConvertible(counts[command].bytes) }
    }
    log(.info, "closed \(summary.text)", fields)
  }
}

extension HandshakeFailure {
  /// 1 and up.
  fileprivate var number: Int { (HandshakeFailure.allCases.firstIndex(of: self) ?? 0) + 1 }

  fileprivate init?(number: Int) {
    guard HandshakeFailure.allCases.indices.contains(number - 1) else { return nil }
    self = HandshakeFailure.allCases[number - 1]
  }
}

/// `after 12.345 s: read 3 (12288 bytes), flush 1; 1 error`
struct ConnectionSummary {
  let counts: PerCommand<CommandCounts>
  let seconds: Double

  var text: String {
    let parts = CountedCommand.allCases.compactMap { command -> String? in
      let count = counts[command]
      guard count.requests > 0 else { return nil }
      return "\(command.label) \(count.requests)" + (count.bytes > 0 ? " (\(count.bytes) bytes)" : "")
    }
    let errors = counts.total.errors
    return "after \(durationText(seconds: seconds)) s: "
      + (parts.isEmpty ? "no requests" : parts.joined(separator: ", "))
      + (errors == 0 ? "" : "; \(errors) error\(errors == 1 ? "" : "s")")
  }
}

/// With three decimals, whatever the locale.
func durationText(seconds: Double) -> String {
  let milliseconds = Int64(max(0, min(seconds, 1e12)) * 1000)
  let fraction = String(milliseconds % 1000)
  return "\(milliseconds / 1000)." + String(repeating: "0", count: 3 - fraction.count) + fraction
}
