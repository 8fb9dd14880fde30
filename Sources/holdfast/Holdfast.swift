// The command line: `holdfast serve`, what asks a running daemon, and what looks at images and configurations.

import ArgumentParser
import Syscalls
import SystemPackage

let holdfastVersion = "0.1.0"

@main struct Holdfast: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "holdfast",
    abstract: "Serve disk images over the NBD protocol.",
    discussion: """
      Examples:
        holdfast serve --create --size 20G disk.img
        holdfast map disk.img
      """,
    version: "holdfast \(holdfastVersion)",
    subcommands: [
      ServeCommand.self, CheckConfigCommand.self, StatusCommand.self, ExportCommand.self, ConnectionsCommand.self,
      SnapshotCommand.self, ClearErrorCommand.self, ReloadCommand.self, MapCommand.self, CompletionsCommand.self,
      VersionCommand.self,
    ])

  /// Runs the command that the arguments name; every failure is printed in one way and ends with its own status.
  static func main() {
    do {
      do throws(Errno) { try fillStandardDescriptors() } catch {
        throw CommandFailure(.ioError, "cannot open /dev/null: \(reason(error))")
      }
      _ = parentAtStart
      // Before anything can go wrong and be printed.
      if CommandLine.arguments.contains("--inetd") { try? StandardDescriptors.silenceSocket() }
      var command = try parseAsRoot()
      try command.run()
    } catch let failure as CommandFailure {
      exit(with: failure)
    } catch {
      // Help and version text are "errors" too; they go to standard output.
      if exitCode(for: error).isSuccess { exit(withError: error) }
      let hint = "see 'holdfast --help' and 'holdfast serve --help'"
      print(CommandFailure(.usage, "\(message(for: error)) (\(hint))"))
      exit(withError: ExitCode(exitCode(for: error).rawValue))
    }
  }

  /// Prints why and ends the process.
  static func exit(with failure: CommandFailure) -> Never {
    print(failure)
    exit(withError: ExitCode(failure.status.rawValue))
  }

  static func print(_ failure: CommandFailure) {
    switch LogStyle.ofStandardError() {
    case .plain, .json: writeToStandardError(failure.lines.map { withoutControlCharacters($0) + "\n" }.joined())
    case .journal: writeToStandardError(failure.lines.map { logLine(.journal, at: .now(), .error, $0) }.joined())
    }
  }
}
