// The metrics as Prometheus reads them: text format 0.0.4. Pure.

import NBDProtocol
import NBDServerCore

/// What the kernel says about the process.
package struct ProcessStatus: Sendable, Equatable {
  package var cpuSeconds = 0.0
  package var residentBytes: UInt64 = 0
  package var virtualBytes: UInt64 = 0
  package var threads = 0
  package var openDescriptors = 0
  package var descriptorsMax: UInt64 = 0
  /// Seconds since 1970.
  package var startSeconds = 0.0

  package init() {}
}

package func metricsText(_ status: ServerStatus, process: ProcessStatus?) -> String {
  var text = MetricsWriter()
  for family in MetricFamily.allCases { text.family(family, status, process) }
  return text.text
}

struct MetricsWriter {
  private(set) var text = ""

  fileprivate mutating func family(_ family: MetricFamily, _ status: ServerStatus, _ process: ProcessStatus?) {
    let samples = samples(family, status, process)
    let histograms = histograms(family, status)
    // A family without samples would be one that nobody can chart: it comes with its first export.
    guard !samples.isEmpty || !histograms.isEmpty else { return }
    text += "# HELP \(family.name) \(MetricsWriter.escapedHelp(family.help))\n"
    text += "# TYPE \(family.name) \(family.kind.rawValue)\n"
    for sample in samples { line(family.name, zip(family.labels, sample.labels), sample.value) }
    for histogram in histograms { self.histogram(family, histogram.labels, histogram.value) }
  }

  struct Sample {
    var labels: [String]
    var value: String

    init(_ labels: [String], _ value: some BinaryInteger) {
      self.labels = labels
      self.value = "\(value)"
    }

    init(_ value: some BinaryInteger) { self.init([], value) }

    init(_ labels: [String], _ flag: Bool) { self.init(labels, flag ? 1 : 0) }

    init(seconds: Double) {
      labels = []
      value = "\(seconds)"
    }
  }

  private func samples(
    _ family: MetricFamily, _ status: ServerStatus, _ process: ProcessStatus?
  ) -> [Sample] {
    func ofExports(_ value: (ExportStatus) -> Sample?) -> [Sample] { status.exports.compactMap(value) }
    func ofCommands(_ value: (CommandCounts) -> UInt64) -> [Sample] {
      status.exports.flatMap { export in
        CountedCommand.allCases.map { Sample([export.name, $0.label], value(export.commands[$0])) }
      }
    }
    func ofProcess(_ value: (ProcessStatus) -> Sample) -> [Sample] { process.map { [value($0)] } ?? [] }

    switch family {
    case .buildInfo: return [Sample([status.version], 1)]
    case .startTime: return [Sample(seconds: status.startedSeconds)]
    case .exports: return [Sample(status.exports.count { !$0.isHidden })]
    case .connections: return ofExports { Sample([$0.name], $0.connections) }
    case .connectionsTotal: return ofExports { Sample([$0.name, "false"], $0.connectionsTotal) }
    case .handshakeFailures:
      return HandshakeFailure.allCases.map { Sample([$0.rawValue], status.handshakeFailures[$0] ?? 0) }
    case .requests: return ofCommands(\.requests)
    case .requestErrors:
      return status.exports.flatMap { export in
        export.errors.sorted { $0.key < $1.key }.map {
          Sample([export.name, $0.key.command.label, $0.key.error.label], $0.value)
        }
      }
    case .rejectedRequests:
      return status.exports.flatMap { export in
        RefusalReason.allCases.compactMap { reason in
          export.refusals[reason].map { Sample([export.name, reason.label], $0) }
        }
      }
    case .readBytes: return ofExports { Sample([$0.name], $0.commands[.read].bytes) }
    case .writtenBytes: return ofExports { Sample([$0.name], $0.commands[.write].bytes) }
    case .zeroedBytes:
      return [
        Sample(["punch"], status.effects.zeroedByPunchBytes),
        Sample(["zero_range"], status.effects.zeroedByZeroRangeBytes),
        Sample(["write"], status.effects.zeroedByWriteBytes),
      ]
    case .trimmedBytes: return [Sample(status.effects.trimmedBytes)]
    case .inflightRequests: return ofExports { Sample([$0.name], $0.inFlight) }
    case .slowOperations: return [Sample(status.slowOperations.count)]
    case .rangeLockWaits: return [Sample(status.locks.waits.count)]
    case .rangeLockHeld: return [Sample(status.locks.held)]
    case .rangeLockWaiters: return [Sample(status.locks.waiting)]
    case .allocatedBytes:
      return ofExports { export in export.allocatedBytes.map { Sample([export.name], $0) } }
    case .sizeBytes: return ofExports { Sample([$0.name], $0.sizeBytes) }
    case .exportPaused: return ofExports { Sample([$0.name], $0.isPaused) }
    case .flushErrors: return [Sample(status.syncs.errors)]
    case .flushErrorLatched: return ofExports { Sample([$0.name], $0.latchedErrno != nil) }
    case .memoryBytes: return [Sample(status.memory.chargedBytes)]
    case .memoryLimit: return [Sample(status.memory.limitBytes)]
    case .memoryWaiters: return [Sample(status.memory.waitingConnections)]
    case .workers: return [Sample(status.workers.threads)]
    case .workersAwake: return [Sample(status.workers.awake)]
    case .reloadSuccessful: return [Sample([], status.reload.lastSucceeded)]
    case .reloadTimestamp: return [Sample(seconds: status.reload.lastSeconds)]
    case .processCPU: return ofProcess { Sample(seconds: $0.cpuSeconds) }
    case .processResident: return ofProcess { Sample($0.residentBytes) }
    case .processVirtual: return ofProcess { Sample($0.virtualBytes) }
    case .processThreads: return ofProcess { Sample($0.threads) }
    case .processOpenDescriptors: return ofProcess { Sample($0.openDescriptors) }
    case .processDescriptorsMax: return ofProcess { Sample($0.descriptorsMax) }
    case .processStart: return ofProcess { Sample(seconds: $0.startSeconds) }
    case .requestDuration, .rangeLockWait, .flushDuration: return []
    }
  }

  private func histograms(
    _ family: MetricFamily, _ status: ServerStatus
  ) -> [(labels: [String], value: LatencyHistogram)] {
    switch family {
    case .requestDuration: CountedCommand.allCases.map { ([$0.label], status.latencies[$0]) }
    case .rangeLockWait: [([], status.locks.waits)]
    case .flushDuration: [([], status.syncs.durations)]
    default: []
    }
  }

  private mutating func histogram(_ family: MetricFamily, _ labels: [String], _ value: LatencyHistogram) {
    var cumulative: UInt64 = 0
    for (index, count) in value.buckets.enumerated() {
      cumulative += count
      let bound =
        index < LatencyHistogram.upperBounds.count
        ? "\(Double(LatencyHistogram.upperBounds[index]) / 1e9)" : "+Inf"
      line("\(family.name)_bucket", zip(family.labels + ["le"], labels + [bound]), "\(cumulative)")
    }
    line("\(family.name)_sum", zip(family.labels, labels), "\(Double(value.sumNanoseconds) / 1e9)")
    line("\(family.name)_count", zip(family.labels, labels), "\(cumulative)")
  }

  private mutating func line(_ name: String, _ labels: some Sequence<(String, String)>, _ value: String) {
    let pairs = labels.map { "\($0)=\"\(MetricsWriter.escapedLabel($1))\"" }
    text += name + (pairs.isEmpty ? "" : "{\(pairs.joined(separator: ","))}") + " \(value)\n"
  }

  /// A label's value stands between quotes.
  static func escapedLabel(_ value: String) -> String { escaped(value, quotes: true) }

  static func escapedHelp(_ text: String) -> String { escaped(text, quotes: false) }

  /// Backslashes and line feeds are escaped, and quotes where the text format demands it.
  private static func escaped(_ text: String, quotes: Bool) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\"" where quotes: result += "\\\""
      case "\n": result += "\\n"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
