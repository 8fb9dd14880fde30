// `holdfast status`: what a running daemon does, once or as a screen that lives.

import ArgumentParser
import Syscalls

struct StatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show what a running daemon does.",
    discussion: """
      Exports with their rates, latencies by command, slow operations, and the busiest connections. Without --watch the \
      rates are the averages since the daemon was started.

      Examples:
        holdfast status
        holdfast status --watch
        holdfast status --json

      Exit statuses: 0 shown, 69 no daemon answers, 77 permission denied.
      """)

  @Flag(help: "Print JSON, one line for each look.")
  var json = false

  @Flag(help: "Look again every second until interrupted: as a screen on a terminal, as lines elsewhere.")
  var watch = false

  @OptionGroup var daemon: AdminOptions

  func run() throws {
    let client = try daemon.connect()
    let first = try look(client)
    guard watch else {
      if json { return try writeToStandardOutput(first.text + "\n") }
      return try writeToStandardOutput(plainText(StatusScreen(now: DaemonStatus(first))))
    }
    if json {
      try forEachLook(client, first) { _, json in try writeToStandardOutput(json.text + "\n") }
    } else if Terminal.isStandardOutput {
      let screen = try Screen(colors: wantsColors())
      defer { screen.close() }
      try forEachLook(client, first) { status, _ in
        try screen.draw { _, rows in status.lines(rowsMax: rows) }
      }
    } else {
      try forEachLook(client, first) { status, _ in try writeToStandardOutput(status.summaryLines) }
    }
  }

  private func look(_ client: AdminClient) throws(CommandFailure) -> JSON { try client.ask(.status, isQuick: true) }

  private func plainText(_ screen: StatusScreen) -> String {
    let colors = wantsColors()
    return screen.lines().map { $0.rendered(width: .max, colors: colors) + "\n" }.joined()
  }

  /// Every second, for ever.
  private func forEachLook(
    _ client: AdminClient, _ first: JSON, _ body: (StatusScreen, JSON) throws -> Void
  ) throws -> Never {
    var json = first
    var screen = StatusScreen(now: DaemonStatus(first))
    while true {
      try body(screen, json)
      sleepMilliseconds(1000)
      json = try look(client)
      screen = StatusScreen(now: DaemonStatus(json), before: screen.now)
    }
  }
}
