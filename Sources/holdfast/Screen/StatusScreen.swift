// What `holdfast status` shows: two looks at a server become lines of text. Pure.

import Syscalls

struct StatusScreen {
  var now: DaemonStatus
  /// An earlier look, for rates; without one the averages since the server began are shown.
  var before: DaemonStatus?

  /// Slow operations and connections that are shown; the rest is counted.
  static let rowsMax = 12

  /// - Parameter rowsMax: of the terminal; connections are left out first.
  func lines(rowsMax: Int = .max) -> [StyledLine] {
    var lines = [title, totals, StyledLine()]
    lines += exportTable.lines
    lines.append(StyledLine())
    lines += latencyTable.lines
    lines.append(StyledLine())
    lines += slowOperations
    let room = rowsMax == .max ? StatusScreen.rowsMax : max(0, rowsMax - lines.count - 3)
    if room > 0, !now.connections.isEmpty {
      lines.append(StyledLine())
      lines += connectionLines(rowsMax: min(room, rowsMax == .max ? StatusScreen.rowsMax : room))
    }
    return Array(lines.prefix(rowsMax))
  }

  // MARK: Time

  /// Between the two looks.
  private var seconds: Double {
    let span = now.uptimeSeconds - (before?.uptimeSeconds ?? 0)
    return max(span, 0.001)
  }

  /// Per second. A server that was started again counts from nothing.
  private func rate(_ new: Int, _ old: Int?) -> Double {
    Double(new >= (old ?? 0) ? new - (old ?? 0) : new) / seconds
  }

  // MARK: Elsewhere than on a screen

  /// One line for each export.
  var summaryLines: String {
    now.exports.map { export in
      let old = before?.exports.first { $0.name == export.name }
      func part(_ name: String, _ command: CountedName) -> String {
        let requests = compactCount(rate(export.commands[command]?.requests ?? 0, old?.commands[command]?.requests))
        let bytes = compactBytes(rate(export.commands[command]?.bytes ?? 0, old?.commands[command]?.bytes))
        return "\(name) \(requests)/s \(bytes)/s"
      }
      let parts = [
        time, withoutControlCharacters(export.name), part("reads", .read), part("writes", .write),
        "in flight \(export.inFlight)", "lock waits \(export.lockWaiters)", state(of: export).text,
      ]
      return parts.joined(separator: "  ") + "\n"
    }.joined()
  }

  private var time: String {
    let seconds = now.nowSeconds < 1e11 ? now.nowSeconds : 0
    let whole = Int(seconds)
    return timestamp(
      WallClockTime(seconds: whole, milliseconds: min(999, Int(((seconds - Double(whole)) * 1000).rounded()))))
  }

  // MARK: The head

  private var title: StyledLine {
    let exports = now.exports.count == 1 ? "1 export" : "\(now.exports.count) exports"
    let clients = now.connections.count == 1 ? "1 connection" : "\(now.connections.count) connections"
    var pieces = [
      StyledText("holdfast \(now.version)", .bold), StyledText("   up \(clock(now.uptimeSeconds))", .dim),
      StyledText("   \(exports), \(clients)"),
    ]
    if now.isShuttingDown { pieces.append(StyledText("   SHUTTING DOWN", .bad)) }
    if !now.lastReloadSucceeded { pieces.append(StyledText("   THE LAST RELOAD FAILED", .bad)) }
    return StyledLine(pieces)
  }

  private var totals: StyledLine {
    let busy = now.workersAwakeMax > 0 && now.workersAwake >= now.workersAwakeMax
    let parts: [StyledText] = [
      StyledText(
        "memory \(compactBytes(Double(now.memoryBytes))) of \(compactBytes(Double(now.memoryBytesMax)))",
        now.memoryWaiters > 0 ? .warning : .plain),
      StyledText("workers \(now.workersAwake) of \(now.workersAwakeMax) awake", busy ? .warning : .plain),
      StyledText(
        "locks \(now.locksHeld) held, \(now.lockWaiters) waited for", now.lockWaiters > 0 ? .warning : .plain),
      StyledText("trimmed \(compactBytes(Double(now.trimmedBytes)))"),
      StyledText("sync errors \(now.syncErrors)", now.syncErrors > 0 ? .bad : .plain),
    ]
    return StyledLine(Array(parts.map { [$0] }.joined(separator: [StyledText("   ")])))
  }

  // MARK: Exports

  var exportTable: TextTable {
    var table = TextTable([
      .init("EXPORT", .left, widthMax: 24), .init("SIZE"), .init("USED"), .init("CLIENTS"), .init("READS/s"),
      .init("READ/s"),
      .init("WRITES/s"), .init("WRITTEN/s"), .init("IN FLIGHT"), .init("LOCK WAITS"), .init("STATE", .left),
    ])
    for export in now.exports {
      let old = before?.exports.first { $0.name == export.name }
      func requests(_ command: CountedName) -> Double {
        rate(export.commands[command]?.requests ?? 0, old?.commands[command]?.requests)
      }
      func bytes(_ command: CountedName) -> Double {
        rate(export.commands[command]?.bytes ?? 0, old?.commands[command]?.bytes)
      }
      table.add([
        StyledText(export.name, .bold), StyledText(compactBytes(Double(export.sizeBytes))),
        StyledText(export.allocatedBytes.map { compactBytes(Double($0)) } ?? "-"), StyledText("\(export.connections)"),
        figure(compactCount(requests(.read))), figure(compactBytes(bytes(.read))),
        figure(compactCount(requests(.write))),
        figure(compactBytes(bytes(.write))), figure("\(export.inFlight)"),
        StyledText("\(export.lockWaiters)", export.lockWaiters > 0 ? .warning : .dim), state(of: export),
      ])
    }
    return table
  }

  /// Nothing happening is not worth a look.
  private func figure(_ text: String) -> StyledText { StyledText(text, text == "0" || text == "0 B" ? .dim : .plain) }

  func state(of export: DaemonStatus.Export) -> StyledText {
    if let error = export.latchedError { return StyledText("SYNC FAILED: \(error)", .bad) }
    if export.isPaused { return StyledText("paused", .warning) }
    if export.isHidden { return StyledText("leaving", .warning) }
    return export.isReadOnly ? StyledText("read-only") : StyledText("ok", .good)
  }

  // MARK: Latencies

  var latencyTable: TextTable {
    var table = TextTable([
      .init("LATENCY", .left), .init("PER SECOND"), .init("MEDIAN"), .init("99 %"), .init("1 µs to 17 s", .left),
    ])
    let rows =
      CountedName.allCases.map { command in
        (
          name: command.rawValue, span: (now.latencies[command] ?? LatencyCounts()).since(before?.latencies[command]),
          isAlways: command == .read || command == .write
        )
      } + [
        (name: "lock wait", span: now.lockWaits.since(before?.lockWaits), isAlways: false),
        (name: "sync", span: now.syncs.since(before?.syncs), isAlways: false),
      ]
    for row in rows where row.isAlways || row.span.count > 0 {
      table.add([
        StyledText(row.name), figure(compactCount(Double(row.span.count) / seconds)),
        StyledText(row.span.quantileSeconds(0.5).map(compactSeconds) ?? "-"),
        StyledText(row.span.quantileSeconds(0.99).map(compactSeconds) ?? "-"),
        StyledText(bars(row.span.buckets), .good),
      ])
    }
    return table
  }

  /// A picture of a histogram: one column for each bucket, as high as its share of the highest.
  private func bars(_ buckets: [Int]) -> String {
    guard let most = buckets.max(), most > 0 else { return "" }
    let heights = Array("▁▂▃▄▅▆▇█")
    return String(
      buckets.map { bucket in
        bucket == 0 ? "·" : heights[Int(Double(bucket) / Double(most) * Double(heights.count - 1))]
      })
  }

  // MARK: Slow operations

  private var slowOperations: [StyledLine] {
    let threshold = "in flight for more than \(compactSeconds(now.slowOperationSeconds))"
    guard !now.slowOperations.isEmpty else { return [StyledLine("SLOW OPERATIONS  none \(threshold)", .dim)] }
    var table = TextTable([
      .init("SLOW OPERATION", .left), .init("SINCE"), .init("EXPORT", .left, widthMax: 24), .init("CONNECTION"),
      .init("OFFSET"),
      .init("LENGTH"), .init("WAITS FOR", .left),
    ])
    for operation in now.slowOperations.prefix(StatusScreen.rowsMax) {
      table.add([
        StyledText(operation.command, .warning), StyledText(compactSeconds(operation.ageSeconds), .warning),
        StyledText(operation.export), StyledText("\(operation.connection)"), StyledText("\(operation.offset)"),
        StyledText(compactBytes(Double(operation.length))), StyledText(operation.waitsFor),
      ])
    }
    let more = now.slowOperations.count - StatusScreen.rowsMax
    return table.lines + (more > 0 ? [StyledLine("and \(more) more", .dim)] : [])
  }

  // MARK: Connections

  /// The busiest first.
  private func connectionLines(rowsMax: Int) -> [StyledLine] {
    let old = Dictionary((before?.connections ?? []).map { ($0.id, $0) }) { first, _ in first }
    func total(_ connection: DaemonStatus.Connection) -> Double {
      rate(connection.total.requests, old[connection.id]?.total.requests)
    }
    let busiest = now.connections.map { (connection: $0, rate: total($0)) }
      .sorted { ($1.rate, $0.connection.id) < ($0.rate, $1.connection.id) }
    var table = StatusScreen.connectionTable
    for (connection, rate) in busiest.prefix(rowsMax) { table.add(row(connection, old[connection.id], rate)) }
    let more = busiest.count - rowsMax
    return table.lines + (more > 0 ? [StyledLine("and \(more) more", .dim)] : [])
  }

  private static var connectionTable: TextTable {
    TextTable([
      .init("CONNECTION"), .init("PEER", .left), .init("EXPORT", .left, widthMax: 24), .init("AGE"),
      .init("REQUESTS/s"),
      .init("BYTES/s"), .init("IN FLIGHT"), .init("UNREAD"), .init("STATE", .left),
    ])
  }

  private func row(_ connection: DaemonStatus.Connection, _ old: DaemonStatus.Connection?, _ requests: Double)
    -> [StyledText]
  {
    [
      StyledText("\(connection.id)"), StyledText(connection.peer), StyledText(connection.export ?? "-"),
      StyledText(compactSeconds(connection.ageSeconds)), figure(compactCount(requests)),
      figure(compactBytes(rate(connection.total.bytes, old?.total.bytes))),
      figure("\(connection.inFlight)"), figure(compactBytes(Double(connection.queuedBytes))),
      StyledText(connection.state, connection.state == "paused" ? .warning : .plain),
    ]
  }

  /// Every connection, for `holdfast connections`.
  var allConnections: TextTable {
    var table = StatusScreen.connectionTable
    for connection in now.connections {
      let rate = Double(connection.total.requests) / max(connection.ageSeconds, 0.001)
      table.add(row(connection, nil, rate))
    }
    return table
  }
}
