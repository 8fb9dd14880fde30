// `holdfast snapshot`, `clear-error` and `reload`: what a running daemon does with an image, and with its configuration.

import ArgumentParser
import Syscalls

struct SnapshotCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot",
    abstract: "Copy an image as it is at one moment, while clients use it.",
    discussion: """
      The copy shares the storage of the image (reflink), so it is quick and takes no room at first; both have to be on one \
      file system, XFS or btrfs. It holds what the image held between two requests, and is complete and on disk when it gets \
      its name. Requests that change the image wait for it meanwhile; how long is printed. A file system in it is as after a \
      power cut; pause the guest, or freeze its file system, for more.

      Examples:
        holdfast snapshot root /srv/root-monday.img

      Exit statuses: 0 made, 66 no such export, 69 no daemon answers, or requests in flight take too long, 73 the file system \
      cannot, or the file exists, 74 the image cannot be synced, 77 permission denied.
      """)

  @Argument(help: "The export.")
  var export: String

  @Argument(help: "The new file.", completion: .file())
  var file: String

  @OptionGroup var options: ChangeOptions

  func run() throws {
    let path = absolutePath(file)
    try options.change(.snapshot, [("export", .string(export)), ("file", .string(path))]) { result in
      let size = ByteSize(bytes: UInt64(max(0, result["size"]?.integer ?? 0)))
      return
        "\(path): \(size) as of now; writers waited \(compactSeconds((result["stall_milliseconds"]?.number ?? 0) / 1000))"
    }
  }
}

struct ClearErrorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clear-error",
    abstract: "Let an image be synced again after a failed sync.",
    discussion: """
      When a sync fails, Linux forgets which bytes it could not write, so every later FLUSH of that image fails here. This \
      command says that you have looked after the cause and after the data: from now on FLUSH means again what it should, for \
      what is written from now on. What clients had written before the failed sync may be lost, though a FLUSH succeeds.

      Exit statuses: 0 cleared, or there was none, 66 no such export, 69 no daemon answers.
      """)

  @Argument(help: "An export of the image.")
  var export: String

  @OptionGroup var options: ChangeOptions

  func run() throws {
    try options.change(.clearError, [("export", .string(export))]) { result in
      result["error"]?.string.map { "export \"\(export)\" can be synced again; it had failed with: \($0)" }
        ?? "export \"\(export)\" has no error; nothing was changed"
    }
  }
}

struct ReloadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reload",
    abstract: "Let a running daemon read its configuration again.",
    discussion: """
      Exports are added, changed and removed; the clients of the others notice nothing. When anything is wrong with the \
      configuration, nothing is changed, and every mistake is told.

      Exit statuses: 0 done, 64 the daemon has no configuration, 69 no daemon answers, 78 mistakes in the configuration.
      """)

  @OptionGroup var options: ChangeOptions

  func run() throws {
    try options.change(.reload, []) { result in
      let lines = (result["lines"]?.elements ?? []).compactMap(\.string)
      return lines.isEmpty ? "the configuration says what is served already" : lines.joined(separator: "\n")
    }
  }
}
