// `holdfast connections`: who uses a running daemon, and the end of one of them.

import ArgumentParser

struct ConnectionsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "connections",
    abstract: "List the connections of a running daemon, or cut one.",
    discussion: """
      Examples:
        holdfast connections
        holdfast connections list --json
        holdfast connections kill 17
      """,
    subcommands: [ConnectionsListCommand.self, ConnectionsKillCommand.self],
    defaultSubcommand: ConnectionsListCommand.self)
}

struct ConnectionsListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the connections, with the averages of their rates.")

  @OptionGroup var options: ChangeOptions

  func run() throws {
    let status = try options.daemon.connect().ask(.status, isQuick: true)
    if options.json {
      let all: JSON = [
        "schema": .integer(AdminRequest.schema), "connections": status["connections"] ?? .array([]),
      ]
      return try writeToStandardOutput(all.text + "\n")
    }
    try writeToStandardOutput(StatusScreen(now: DaemonStatus(status)).allConnections.plainText)
  }
}

struct ConnectionsKillCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kill",
    abstract: "Cut a connection.",
    discussion: """
      As if the network had broken: nothing more is answered. What had begun is finished and keeps later requests to the same \
      bytes waiting until then; what had not begun is dropped.
      """)

  @Argument(help: "Its number, from the list.")
  var id: UInt32

  @OptionGroup var options: ChangeOptions

  func run() throws {
    try options.change(.connectionKill, [("connection", .integer(Int(id)))]) { _ in "connection \(id) is cut" }
  }
}
