// The text that Prometheus reads, by a small reader of its own grammar; and that it is documented.

import DaemonHarness
import NBDProtocol
import NBDServerCore
import Oracle
import Reports
import SystemPackage
import Testing

@Suite struct MetricsTexts {
  /// A status with something in every place.
  static func full(exportName: String = "disk") -> ServerStatus {
    var status = ServerStatus()
    status.version = "0.1.0"
    var export = ExportStatus(name: exportName)
    export.sizeBytes = 1 << 30
    export.allocatedBytes = 4096
    export.connections = 2
    export.connectionsTotal = 7
    export.latchedErrno = .ioError
    for (index, command) in CountedCommand.allCases.enumerated() {
      export.commands[command] = CommandCounts(requests: UInt64(10 + index), errors: 1, bytes: UInt64(index) * 4096)
      export.errors[RequestErrorKey(command: command, error: .io)] = 1
      status.latencies[command].add(nanoseconds: Int64(1000 << index), times: 3)
    }
    export.refusals[.beyondEnd] = 4
    status.exports = [export]
    status.locks.waits.add(nanoseconds: 5_000_000)
    status.syncs.durations.add(nanoseconds: 900_000)
    status.syncs.errors = 2
    status.effects.trimmedBytes = 65536
    return status
  }

  @Test func theTextKeepsTheGrammar() throws {
    let text = metricsText(MetricsTexts.full(), process: ProcessStatus())
    let samples = try PrometheusReader.read(text)
    #expect(Set(samples.map(\.family)) == Set(MetricFamily.allCases.map(\.name)))
  }

  @Test func countersAreThoseOfTheStatus() throws {
    let status = MetricsTexts.full()
    let samples = try PrometheusReader.read(metricsText(status, process: nil))
    func value(_ name: String, _ labels: [String: String]) -> Double? {
      samples.first { $0.name == name && $0.labels == labels }?.value
    }
    for command in CountedCommand.allCases {
      let labels = ["export": "disk", "op": command.label]
      #expect(value("holdfast_requests_total", labels) == Double(status.exports[0].commands[command].requests))
      #expect(value("holdfast_request_errors_total", labels.merging(["error": "EIO"]) { a, _ in a }) == 1)
      #expect(value("holdfast_request_duration_seconds_count", ["op": command.label]) == 3)
    }
    #expect(value("holdfast_rejected_requests_total", ["export": "disk", "reason": "beyond_end"]) == 4)
    #expect(value("holdfast_written_bytes_total", ["export": "disk"]) == 4096)
    #expect(value("holdfast_flush_error_latched", ["export": "disk"]) == 1)
    #expect(value("holdfast_flush_errors_total", [:]) == 2)
    #expect(value("holdfast_range_lock_waits_total", [:]) == 1)
    #expect(value("holdfast_trimmed_bytes_total", [:]) == 65536)
    #expect(value("holdfast_connections_total", ["export": "disk", "tls": "false"]) == 7)
  }

  /// Names that clients and operators chose cannot break out of their label.
  @Test func anyNameComesBackAsItWas() throws {
    let seed = printedSeed()
    var random = SeededGenerator(seed: seed)
    let alphabet: [Character] = ["\\", "\"", "\n", "{", "}", ",", "=", " ", "a", "ä", "n", "#", "\u{2028}"]
    for _ in 0..<20 {
      let name = String(
        (0..<Int.random(in: 1...12, using: &random)).map { _ in alphabet.randomElement(using: &random)! })
      let samples = try PrometheusReader.read(metricsText(MetricsTexts.full(exportName: name), process: nil))
      #expect(samples.first { $0.name == "holdfast_size_bytes" }?.labels == ["export": name])
    }
  }

  /// docs/observability.md has a row for each metric, with its labels and kind, and none for what is not there.
  @Test func everyMetricIsDocumented() throws {
    let document = text(of: "\(packageDirectory)/docs/observability.md")
    try #require(!document.isEmpty, "docs/observability.md is missing")
    let rows = document.split(separator: "\n").filter { $0.hasPrefix("| `holdfast_") || $0.hasPrefix("| `process_") }
    let documented = rows.map { row in
      row.split(separator: "|").map { String($0).trimmed }
    }.filter { $0.count == 4 }
    let expected = MetricFamily.allCases.map { family in
      ["`\(family.name)`", family.kind.rawValue, family.labels.map { "`\($0)`" }.joined(separator: ", "), family.help]
        .map { $0.isEmpty ? "" : $0 }
    }
    for row in expected {
      #expect(documented.contains(row), "write into docs/observability.md: | \(row.joined(separator: " | ")) |")
    }
    #expect(documented.count == expected.count, "a metric is documented that does not exist")
  }

  @Test func theStatOfAProcessIsRead() throws {
    let stat =
      "77 (a (b) c) S 1 77 77 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 12 0 5000 1048576 256 18446744073709551615 1"
    let status = try #require(ProcessStatus(stat: stat, ticksPerSecond: 100, pageBytes: 4096))
    #expect(status.cpuSeconds == 2 && status.threads == 12)
    #expect(status.virtualBytes == 1_048_576 && status.residentBytes == 256 * 4096)
    for count in 0..<stat.count where count < 100 {
      _ = ProcessStatus(stat: String(stat.prefix(count)), ticksPerSecond: 100, pageBytes: 4096)
    }
    #expect(ProcessStatus(stat: "nonsense", ticksPerSecond: 100, pageBytes: 4096) == nil)
  }
}

/// The folder of Package.swift.
let packageDirectory = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

extension String {
  fileprivate var trimmed: String {
    var text = self[...]
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return String(text)
  }
}
