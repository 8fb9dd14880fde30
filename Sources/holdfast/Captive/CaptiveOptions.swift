// The options of `serve` that tie the server's life to somebody else's: a command, its clients, one socket, its parent.

import ArgumentParser

struct CaptiveOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Run COMMAND in a shell with $uri, $unixsocket, $port, $exportname and $nbd set; stop when it ends, with its status.",
      valueName: "command"))
  var run: String?

  @Flag(help: "Stop when the last client leaves.")
  var exitWhenIdle = false

  @Flag(help: "Stop when the process that started the server ends.")
  var exitWithParent = false

  @Flag(help: "Serve the one client whose socket is standard input, as inetd(8) starts servers; print nothing.")
  var inetd = false

  @Option(
    help: ArgumentHelp("Write the process number to FILE while the server listens.", valueName: "file"),
    completion: .file())
  var pidFile: String?

  /// Nobody asked for the default sockets: whoever runs a command or hands a socket over knows where the server is.
  var replacesDefaultListeners: Bool { run != nil || inetd }

  /// What stands on standard output is the command's, or the client's.
  var isSilent: Bool { run != nil || inetd }

  func validate() throws {
    if let run, run.utf8.contains(0) { throw ValidationError("--run: a command cannot have NUL in it") }
    if run?.isEmpty == true { throw ValidationError("--run: the command is empty") }
    if pidFile?.isEmpty == true { throw ValidationError("--pid-file: the path is empty") }
    if run != nil, exitWhenIdle {
      throw ValidationError(
        "--run and --exit-when-idle contradict each other: with --run the server stops when the command ends")
    }
    if inetd {
      if run != nil { throw ValidationError("--inetd and --run contradict each other; leave one out") }
      if pidFile != nil {
        throw ValidationError("--inetd and --pid-file contradict each other: such a server does not listen")
      }
    }
  }
}
