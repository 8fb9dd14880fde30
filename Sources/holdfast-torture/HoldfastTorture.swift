// The command line: `run` (which need not be said) judges a server under load, `scenario` provokes one known fault.

import ArgumentParser
import Glibc
import Oracle
import Synchronization
import Syscalls
import Torture

@main
struct HoldfastTorture: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "holdfast-torture",
    abstract: "Fire overlapping requests at an NBD server and judge what it answers.",
    discussion: """
      OVERWRITES the beginning of the export (--region). Use an export that nobody else uses.

      Exit statuses: 0 clean, 1 violation, 2 could not judge, 64 usage.
      """,
    subcommands: [RunCommand.self, ScenarioCommand.self, ScenariosCommand.self], defaultSubcommand: RunCommand.self)
}

/// Ends the process with the exit status of a run that could not be judged.
/// - Parameter uri: for the verdict as JSON, if it was asked for.
func couldNotJudge(_ reason: String, json uri: String?) -> ExitCode {
  say("holdfast-torture: could not judge: \(reason)\n")
  if let uri { print(JSON.notJudged(reason, uri).text) }
  return ExitCode(Word.notJudged.exitCode)
}

/// The first SIGINT or SIGTERM ends the load, and what is there is judged. The second one ends the process at once, whatever it
/// waits for, and the server that it has started.
func endEarlyOnSignals() throws {
  signal(SIGPIPE, SIG_IGN)
  // However this process ends by itself, the server that it started does not outlive it.
  atexit { ServerProcess.killAll() }
  let counters = [try SignalCounter(SIGINT), try SignalCounter(SIGTERM)]
  try PosixThread.spawn(name: "signals") {
    var arrived = 0
    while true {
      var polled = counters.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
      _ = poll(&polled, nfds_t(polled.count), -1)
      arrived += counters.reduce(0) { $0 + $1.take() }
      if arrived > 0 { wasInterrupted.store(true, ordering: .relaxed) }
      if arrived > 1 {
        ServerProcess.killAll()
        _exit(128 + SIGINT)
      }
    }
  }
}

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Judge a server under load.",
    discussion: """
      OVERWRITES the beginning of the export (--region).

      Examples:
        holdfast-torture 'nbd+unix:///?socket=/tmp/nbd.sock' --seconds 60
        holdfast-torture nbd://127.0.0.1:10809/scratch --operations 1000000 --connections 16 --mix write,read,trim
        holdfast-torture 'nbd+unix:///?socket=/tmp/s' --kills 20 --operations 500000 \\
          --server-command 'rm -f /tmp/s; nbdkit -f -U /tmp/s file disk.img'
      """)

  @Argument(help: ArgumentHelp("The export, as libnbd has it.", valueName: "uri")) var uri: String
  @Option(help: "Connections; one when the server does not offer several.") var connections = 8
  @Option(help: "Requests in flight on each connection.") var depth = 4
  @Option(help: "How long. (default: 10, unless --operations is given)") var seconds: Double?
  @Option(help: "How many requests.") var operations: Int?
  @Option(help: "The same seed asks for the same things. (default: a new one, which is printed)") var seed: UInt64?
  @Option(
    help: ArgumentHelp(
      "What to send: read, write, trim, zero, status, flush; write:5 gives a weight. (default: all of them)",
      valueName: "kind,…"))
  var mix: String?
  @Option(help: ArgumentHelp("How much of the export to use: 64M. (default: 4M)", valueName: "size")) var region:
    String?
  @Option(help: ArgumentHelp("What offsets and lengths are multiples of; 512 divides it.", valueName: "size"))
  var block = "4096"
  @Option(help: ArgumentHelp("The longest usual request. (default: 16 blocks)", valueName: "size")) var length: String?
  @Option(help: ArgumentHelp("Start the server with this shell command.", valueName: "cmd")) var serverCommand: String?
  @Option(help: "Kill the server (SIGKILL) so often and start it again; with --server-command.") var kills = 0
  @Flag(help: "Count what the protocol does not promise as violations, too.") var strict = false
  @Flag(help: "Print the verdict as JSON.") var json = false
  @Flag(help: "Show no progress.") var quiet = false

  func validate() throws {
    guard (1...256).contains(connections) else { throw ValidationError("--connections is 1 to 256.") }
    guard (1...256).contains(depth) else { throw ValidationError("--depth is 1 to 256.") }
    if let seconds, seconds <= 0 { throw ValidationError("--seconds is more than 0.") }
    if let operations, operations < 1 { throw ValidationError("--operations is at least 1.") }
    guard kills >= 0, kills == 0 || serverCommand != nil else {
      throw ValidationError("--kills needs --server-command: what is killed has to be started again.")
    }
    _ = try settings()
  }

  func settings() throws -> Settings {
    var settings = Settings(uri: uri, seed: seed ?? UInt64.random(in: 1...UInt64(UInt32.max)))
    (settings.connections, settings.depth, settings.operations) = (connections, depth, operations)
    settings.seconds = seconds ?? (operations == nil ? 10 : nil)
    (settings.serverCommand, settings.kills, settings.isStrict) = (serverCommand, kills, strict)
    settings.isQuiet = quiet
    if let mix {
      guard let parsed = Mix(parsing: mix) else {
        throw ValidationError(
          "--mix: \"\(mix)\" is no list of read, write, trim, zero, status, flush, each once, perhaps with :WEIGHT.")
      }
      settings.shape.mix = parsed
    }
    guard settings.shape.mix.weights[.read] != nil, settings.shape.mix.weights[.write] != nil else {
      throw ValidationError("--mix needs write and read: without them nothing can be judged.")
    }
    settings.shape.blockBytes = try size(block, "--block", 512...1 << 20)
    guard settings.shape.blockBytes % 512 == 0 else { throw ValidationError("--block is a multiple of 512.") }
    settings.shape.lengthBytesMin = settings.shape.blockBytes
    settings.shape.lengthBytesMax =
      try length.map { try size($0, "--length", 512...32 << 20) }
      ?? 16 * settings.shape.blockBytes
    let slotBytes = max(settings.shape.lengthBytesMax, settings.shape.longBytesMax)
    guard connections * depth * slotBytes <= RunCommand.bufferBytesMax else {
      throw ValidationError(
        "--connections, --depth and --length: \(connections) x \(depth) requests in flight of up to \(slotBytes) bytes "
          + "need more than \(RunCommand.bufferBytesMax) bytes of memory.")
    }
    settings.regionBytes = try region.map { try size($0, "--region", 4096...1 << 30) }
    return settings
  }

  private static let bufferBytesMax = 2 << 30

  private func size(_ text: String, _ option: String, _ allowed: ClosedRange<Int>) throws -> Int {
    guard let bytes = bytes(parsing: text), allowed.contains(bytes) else {
      throw ValidationError(
        "\(option): \"\(text)\" is no size from \(allowed.lowerBound) to \(allowed.upperBound) bytes.")
    }
    return bytes
  }

  func run() throws {
    try endEarlyOnSignals()
    let verdict: Verdict
    do {
      verdict = try TortureRun(try settings()).execute()
    } catch let failure as TortureFailure {
      throw couldNotJudge(failure.description, json: json ? uri : nil)
    }
    print(json ? verdict.json.text + "\n" : verdict.text, terminator: "")
    throw ExitCode(verdict.word.exitCode)
  }
}

/// `4096`, `64K`, `64KiB`, `2M`, `1G`; nil for anything else.
func bytes(parsing text: String) -> Int? {
  let digits = text.prefix { $0.isASCII && $0.isNumber }
  let factors = ["": 1, "k": 10, "m": 20, "g": 30]
  var suffix = text.dropFirst(digits.count).lowercased()
  if suffix.hasSuffix("ib") { suffix = String(suffix.dropLast(2)) }
  guard let number = Int(digits), let shift = factors[suffix], suffix.isEmpty || !digits.isEmpty else { return nil }
  let (value, overflow) = number.multipliedReportingOverflow(by: shift == 1 ? 1 : 1 << shift)
  return overflow ? nil : value
}
