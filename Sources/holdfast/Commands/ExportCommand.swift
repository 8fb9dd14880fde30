// `holdfast export`: changes the exports of a running daemon.

import ArgumentParser
import Syscalls

struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Change the exports of a running daemon.",
    discussion: """
      What is changed here is not written into the configuration. What was added stays until the daemon ends; what a \
      configuration has and was removed is back when that is read again.

      Examples:
        holdfast export list
        holdfast export add root /srv/root.img
        holdfast export resize root 40G
        holdfast export remove --mode drain root
      """,
    subcommands: [
      ExportListCommand.self, ExportAddCommand.self, ExportRemoveCommand.self, ExportResizeCommand.self,
      ExportPauseCommand.self, ExportResumeCommand.self, ExportShowCommand.self,
    ])
}

/// What the commands that change something share.
struct ChangeOptions: ParsableArguments {
  @Flag(help: "Print the daemon's answer as JSON.")
  var json = false

  @OptionGroup var daemon: AdminOptions

  /// Asks, and prints the answer: as JSON, or as the sentence that `sentence` makes of it.
  func change(
    _ command: AdminCommand, _ keys: [(String, JSON?)], _ sentence: (JSON) -> String
  ) throws(CommandFailure) {
    let result = try daemon.connect().ask(command, keys)
    let lines =
      json ? [result.text] : sentence(result).split(separator: "\n").map { withoutControlCharacters(String($0)) }
    try writeToStandardOutput(lines.map { $0 + "\n" }.joined())
  }
}

struct ExportListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the exports of a running daemon.")

  @OptionGroup var options: ChangeOptions

  func run() throws {
    let status = try options.daemon.connect().ask(.status, isQuick: true)
    let exports = status["exports"] ?? .array([])
    if options.json {
      let all: JSON = ["schema": .integer(AdminRequest.schema), "exports": exports]
      return try writeToStandardOutput(all.text + "\n")
    }
    var table = TextTable([
      .init("EXPORT", .left), .init("SIZE"), .init("CLIENTS"), .init("STATE", .left),
      .init("IMAGE", .left, widthMax: .max),
    ])
    let screen = StatusScreen(now: DaemonStatus(status))
    for export in screen.now.exports {
      table.add([
        StyledText(export.name), StyledText("\(ByteSize(bytes: UInt64(export.sizeBytes)))"),
        StyledText("\(export.connections)"),
        screen.state(of: export), StyledText(export.path),
      ])
    }
    try writeToStandardOutput(table.plainText)
  }
}

struct ExportAddCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Serve one more image.",
    discussion: """
      The daemon opens the image, so it has to be allowed to. Whatever else an export may have is written with --set, with \
      the keys of the configuration and values as in JSON; a text needs no quotes.

      Examples:
        holdfast export add root /srv/root.img
        holdfast export add --create --size 20G scratch /srv/scratch.img
        holdfast export add --read-only --set description='Debian 12' iso /srv/debian.iso
        holdfast export add --set 'allow=["unix"]' --set 'limits={"connections": 4}' data /srv/data.img
      """)

  @Argument(help: "The name that clients ask for.")
  var name: String

  @Argument(help: "A regular file or block device.", completion: .file())
  var image: String

  @Flag(help: "Serve it read-only.")
  var readOnly = false

  @Flag(help: "Make the image, sparse, when it does not exist.")
  var create = false

  @Option(help: "The size of an image that --create makes: 20G, 512M, 1TiB, or bytes.")
  var size: String?

  @Option(help: ArgumentHelp("A further key of [[export]] and its value (repeatable).", valueName: "key=value"))
  var set: [String] = []

  @OptionGroup var options: ChangeOptions

  func run() throws {
    var keys: [(String, JSON?)] = [
      ("name", .string(name)), ("path", .string(absolutePath(image))), ("read-only", readOnly ? true : nil),
      ("create", create ? true : nil), ("size", size.map { .string($0) }),
    ]
    for text in set {
      guard let separator = text.firstIndex(of: "="), separator != text.startIndex else {
        throw CommandFailure(.usage, "--set: \"\(text)\" gives no value; write --set KEY=VALUE")
      }
      keys.append((String(text[..<separator]), value(String(text[text.index(after: separator)...]))))
    }
    try options.change(.exportAdd, keys) { _ in "export \"\(name)\" is served" }
  }

  /// Whatever is JSON is taken as it is, so that lists and numbers can be written; everything else is a string.
  private func value(_ text: String) -> JSON {
    do throws(JSONMistake) { return try JSON(parsing: Array(text.utf8)) } catch { return .string(text) }
  }
}

struct ExportRemoveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove",
    abstract: "Serve an image no longer.",
    discussion: """
      What happens to its clients: refuse (the default) does nothing while there are any; hide lets no new client find it; \
      drain also frees its name, and it is gone with its last client; now finishes what they have asked for and closes them.
      """)

  @Argument(help: "The export.")
  var name: String

  @Option(
    help: ArgumentHelp("refuse, hide, drain or now.", valueName: "mode"),
    completion: .list(["refuse", "hide", "drain", "now"]))
  var mode = "refuse"

  @Option(help: ArgumentHelp("How long to wait for the clients, with drain and now.", valueName: "seconds"))
  var wait: Int?

  @OptionGroup var options: ChangeOptions

  func run() throws {
    let keys: [(String, JSON?)] = [
      ("export", .string(name)), ("mode", .string(mode)), ("wait", wait.map { .integer($0) }),
    ]
    try options.change(.exportRemove, keys) { result in
      if result["gone"]?.boolean == true { return "export \"\(name)\" is gone" }
      let count = result["connections"]?.integer ?? 0
      let clients = count == 1 ? "1 connection" : "\(count) connections"
      return result["mode"]?.string == "hide"
        ? "export \"\(name)\" is hidden; \(clients) still have it"
        : "export \"\(name)\" goes with its last client; \(clients) had it"
    }
  }
}

struct ExportResizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resize",
    abstract: "Make an image larger.",
    discussion:
      "An image only grows. Clients that are connected keep the size that they were told; new ones see the new size.")

  @Argument(help: "The export.")
  var name: String

  @Argument(help: "The new size: 20G, 512M, 1TiB, or bytes.")
  var size: String

  @OptionGroup var options: ChangeOptions

  func run() throws {
    try options.change(.exportResize, [("export", .string(name)), ("size", .string(size))]) { result in
      func size(_ key: String) -> ByteSize { ByteSize(bytes: UInt64(max(0, result[key]?.integer ?? 0))) }
      return "export \"\(name)\" has \(size("new_size")), was \(size("old_size")); connect again to see it"
    }
  }
}

struct ExportPauseCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause",
    abstract: "Let requests to an export wait.",
    discussion:
      "What has been admitted is finished and answered; further requests wait in their sockets until the export is resumed."
  )

  @Argument(help: "The export.")
  var name: String

  @Option(help: ArgumentHelp("How long to wait for what has been admitted.", valueName: "seconds"))
  var wait: Int?

  @OptionGroup var options: ChangeOptions

  func run() throws {
    try options.change(.exportPause, [("export", .string(name)), ("wait", wait.map { .integer($0) })]) { result in
      result["quiet"]?.boolean == true
        ? "export \"\(name)\" is paused and quiet"
        : "export \"\(name)\" is paused; requests that had been admitted still run"
    }
  }
}

struct ExportResumeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "resume", abstract: "Let a paused export go on.")

  @Argument(help: "The export.")
  var name: String

  @OptionGroup var options: ChangeOptions

  func run() throws {
    try options.change(.exportResume, [("export", .string(name))]) { _ in "export \"\(name)\" goes on" }
  }
}

struct ExportShowCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Let new clients find an export that was hidden.")

  @Argument(help: "The export.")
  var name: String

  @OptionGroup var options: ChangeOptions

  func run() throws {
    try options.change(.exportShow, [("export", .string(name))]) { _ in "export \"\(name)\" can be found again" }
  }
}
