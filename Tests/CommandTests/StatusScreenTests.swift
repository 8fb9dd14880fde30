// What `holdfast status` shows, from two values.

import Testing

@testable import holdfast

/// A server with one busy export and one that is idle, `seconds` after its start.
private func status(at seconds: Double, reads: Int = 0, writes: Int = 0) -> DaemonStatus {
  var status = DaemonStatus()
  status.version = "0.1.0"
  status.uptimeSeconds = seconds
  status.nowSeconds = 1_763_717_462.123
  status.memoryBytes = 12 << 20
  status.memoryBytesMax = 256 << 20
  status.workersAwake = 3
  status.workersAwakeMax = 16
  status.slowOperationSeconds = 1
  var root = DaemonStatus.Export(name: "root")
  root.sizeBytes = 20 << 30
  root.allocatedBytes = 4_509_715_660
  root.connections = 2
  root.commands[.read] = DaemonStatus.Counts(requests: reads, errors: 0, bytes: reads * 4096)
  root.commands[.write] = DaemonStatus.Counts(requests: writes, errors: 0, bytes: writes * 4096)
  root.inFlight = 5
  var iso = DaemonStatus.Export(name: "iso")
  iso.sizeBytes = 700 << 20
  iso.isReadOnly = true
  status.exports = [root, iso]
  var busy = DaemonStatus.Connection(id: 7, peer: "unix pid 44 uid 0")
  busy.export = "root"
  busy.ageSeconds = 90
  busy.state = "serving"
  busy.commands[.read] = DaemonStatus.Counts(requests: reads, errors: 0, bytes: reads * 4096)
  var idle = DaemonStatus.Connection(id: 3, peer: "127.0.0.1:40312")
  idle.export = "root"
  idle.ageSeconds = 7300
  idle.state = "idle"
  status.connections = [idle, busy]
  var latency = LatencyCounts(buckets: Array(repeating: 0, count: 26))
  latency.buckets[4] = reads
  latency.buckets[9] = reads / 50
  status.latencies[.read] = latency
  return status
}

private func text(_ lines: [StyledLine], width: Int = 200) -> [String] {
  lines.map { $0.rendered(width: width, colors: false) }
}

@Suite struct StatusScreenTests {
  @Test func twoLooksMakeRates() {
    let screen = StatusScreen(
      now: status(at: 12, reads: 30_000, writes: 500), before: status(at: 10, reads: 5_400, writes: 300))
    let lines = text(screen.lines())
    #expect(lines[0] == "holdfast 0.1.0   up 00:00:12   2 exports, 2 connections")
    #expect(
      lines[1]
        == "memory 12 MiB of 256 MiB   workers 3 of 16 awake   locks 0 held, 0 waited for   trimmed 0 B   sync errors 0"
    )
    #expect(
      lines[3...5] == [
        "EXPORT     SIZE     USED  CLIENTS  READS/s  READ/s  WRITES/s  WRITTEN/s  IN FLIGHT  LOCK WAITS  STATE",
        "root     20 GiB  4.2 GiB        2      12k  48 MiB       100    400 KiB          5           0  ok",
        "iso     700 MiB        -        0        0     0 B         0        0 B          0           0  read-only",
      ])
    #expect(
      lines[7...9] == [
        "LATENCY  PER SECOND  MEDIAN    99 %  1 µs to 17 s",
        "read            13k   12 µs  391 µs  ····█····▁················",
        "write             0       -       -",
      ])
    #expect(lines[11] == "SLOW OPERATIONS  none in flight for more than 1.0 s")
    // The busiest comes first.
    #expect(
      lines[13...15] == [
        "CONNECTION  PEER               EXPORT   AGE  REQUESTS/s  BYTES/s  IN FLIGHT  UNREAD  STATE",
        "         7  unix pid 44 uid 0  root    90 s         12k   48 MiB          0     0 B  serving",
        "         3  127.0.0.1:40312    root     2 h           0      0 B          0     0 B  idle",
      ])
  }

  @Test func oneLookMakesAverages() {
    let lines = text(StatusScreen(now: status(at: 100, reads: 1000, writes: 0)).lines())
    #expect(lines[4].hasPrefix("root     20 GiB  4.2 GiB        2       10"))
  }

  /// Counters that fell were those of another process.
  @Test func aServerThatWasStartedAgainHasNoNegativeRates() {
    let screen = StatusScreen(now: status(at: 2, reads: 10), before: status(at: 5000, reads: 1_000_000))
    #expect(text(screen.lines())[4].contains("root"))
  }

  @Test func whatNeedsAttentionIsSaid() {
    var now = status(at: 10)
    now.exports[0].latchedError = "Input/output error"
    now.exports[1].isPaused = true
    now.exports[0].lockWaiters = 4
    now.isShuttingDown = true
    now.lastReloadSucceeded = false
    now.slowOperations = [
      DaemonStatus.SlowOperation(
        connection: 7, export: "root", command: "write_zeroes", offset: 4096, length: 1 << 30, ageSeconds: 3.24,
        waitsFor: "lock")
    ]
    let lines = text(StatusScreen(now: now).lines())
    #expect(lines[0].hasSuffix("   SHUTTING DOWN   THE LAST RELOAD FAILED"))
    #expect(lines[4].hasSuffix("4  SYNC FAILED: Input/output error"))
    #expect(lines[5].hasSuffix("paused"))
    let slow = lines.firstIndex { $0.hasPrefix("SLOW OPERATION ") }
    #expect(
      slow.map { lines[$0 + 1] } == "write_zeroes    3.2 s  root             7    4096  1.0 GiB  lock")
  }

  @Test func itFitsTheTerminal() {
    var now = status(at: 10)
    for id in 100..<400 { now.connections.append(DaemonStatus.Connection(id: id, peer: "unix pid 1 uid 0")) }
    for rows in [1, 3, 10, 24, 50] {
      let lines = StatusScreen(now: now).lines(rowsMax: rows)
      #expect(lines.count <= rows)
      for line in lines { #expect(line.rendered(width: 40, colors: false).count <= 40) }
    }
    #expect(text(StatusScreen(now: now).lines(rowsMax: 24)).contains { $0.hasPrefix("and ") && $0.hasSuffix(" more") })
  }

  @Test func whatClientsChooseDoesNotMoveTheCursor() {
    var now = status(at: 10)
    now.exports[0].name = "a\u{1b}[2J\nb"
    let drawn = Screen.text(StatusScreen(now: now).lines(), columns: 120, rows: 40, colors: false)
    #expect(!drawn.contains("\u{1b}[2J"))
    #expect(drawn.contains(#"a\u{1B}[2J\nb"#))
  }

  @Test func aFrameOverwritesTheOneBefore() {
    let lines = [StyledLine("one", .bold), StyledLine("two three")]
    #expect(Screen.text(lines, columns: 5, rows: 9, colors: false) == "\u{1b}[Hone\u{1b}[K\r\ntwo t\u{1b}[K\u{1b}[J")
    #expect(Screen.text(lines, columns: 5, rows: 1, colors: true) == "\u{1b}[H\u{1b}[1mone\u{1b}[0m\u{1b}[K\u{1b}[J")
  }

  @Test func withoutAScreenThereIsALineForEachExport() {
    let screen = StatusScreen(
      now: status(at: 12, reads: 3000, writes: 500), before: status(at: 10, reads: 1000, writes: 300))
    #expect(
      screen.summaryLines == """
        2025-11-21T09:31:02.123Z  root  reads 1.0k/s 3.9 MiB/s  writes 100/s 400 KiB/s  in flight 5  lock waits 0  ok
        2025-11-21T09:31:02.123Z  iso  reads 0/s 0 B/s  writes 0/s 0 B/s  in flight 0  lock waits 0  read-only

        """)
  }
}

@Suite struct FiguresTests {
  @Test func numbersHaveTwoOrThreeDigits() {
    #expect(
      [0, 0.3, 7.25, 12, 999, 999.6, 1234, 12_345, 999_999, 4_500_000].map(compactCount) == [
        "0", "0.3", "7.3", "12", "999", "1.0k", "1.2k", "12k", "1.0M", "4.5M",
      ])
    #expect(
      [0, 1, 1023, 1024, 1536, 1_048_575, 20 * 1024 * 1024 * 1024].map(compactBytes) == [
        "0 B", "1 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "20 GiB",
      ])
    #expect(
      [0, 8.5e-7, 1.8e-5, 0.0012, 3.4, 300, 7300, 200_000].map(compactSeconds) == [
        "0 ns", "850 ns", "18 µs", "1.2 ms", "3.4 s", "5 min", "2 h", "2 d",
      ])
  }

  @Test func noNumberIsTooMuch() {
    for value in [Double.infinity, -.infinity, .nan, -5, 1e300, .leastNonzeroMagnitude] {
      #expect(
        !compactCount(value).isEmpty && !compactBytes(value).isEmpty && !compactSeconds(value).isEmpty
          && !clock(value).isEmpty)
    }
  }
}
