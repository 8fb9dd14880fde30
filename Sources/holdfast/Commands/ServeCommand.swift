// `holdfast serve`: the command line of the daemon.

import ArgumentParser
import BlockBackend
import Logging
import Syscalls
import SystemPackage

struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve images until stopped.",
    discussion: """
      A lone IMAGE is the default export and also answers to its file name; several are exported by their file names. \
      IMAGE is a regular file or a block device. When nothing else is said, the server listens on the Unix socket \
      nbd.sock in the runtime directory (/run/holdfast for root, else $XDG_RUNTIME_DIR/holdfast) and on \
      127.0.0.1:10809.

      Examples:
        holdfast serve disk.img
        holdfast serve --create --size 20G disk.img
        holdfast serve --unix /tmp/nbd.sock --read-only debian.iso
        holdfast serve --tcp '[::1]:10809' --export root=/srv/root.img --export home=/dev/vg0/home
        holdfast serve --config /etc/holdfast/holdfast.toml
        holdfast serve --fault write:error=EIO,nth=3 --fault read:delay=200ms,range=1M-2M disk.img
        holdfast serve --run 'nbdinfo "$uri"' disk.img

      --fault makes calls on every image go wrong on purpose, to test clients. RULE is CALLS:PART,PART...: CALLS is \
      read, write, trim, zero, sync, status, cache or any, several with +; the parts are error=EIO, delay=200ms, \
      short=512, lose or enospc-until-trimmed, and when: nth=3, times=2, range=1M-2M, probability=10%, seed=7.

      SIGTERM and SIGINT stop the server: what is in flight is finished and synced first; a second signal ends it at \
      once.

      Exit statuses: 0 stopped as asked, 64 usage, 65 not a usable image, 66 no such image, 69 address in use, \
      71 no process or thread, 73 cannot create, 74 I/O error, 75 image used by another process, 77 permission denied, 78 configuration; \
      with --run those of the command.
      """)

  @Option(help: ArgumentHelp("Listen on a Unix socket (repeatable).", valueName: "path"), completion: .file())
  var unix: [String] = []

  @Option(
    help: ArgumentHelp("Listen on a TCP address (repeatable); port 0 lets the kernel choose.", valueName: "host:port"))
  var tcp: [String] = []

  @Option(help: ArgumentHelp("Listen for operators on a Unix socket (see status).", valueName: "path"))
  var admin: String?

  @Option(help: ArgumentHelp("Export IMAGE as NAME (repeatable).", valueName: "name=image"))
  var export: [String] = []

  @Flag(help: "Serve every image read-only.")
  var readOnly = false

  @Option(help: "The size of an image that --create makes: 20G, 512M, 1TiB, or bytes.")
  var size: String?

  @Flag(help: "Make an image that does not exist, sparse, with --size bytes.")
  var create = false

  @Option(help: ArgumentHelp("Make calls on the images go wrong (repeatable), see above.", valueName: "rule"))
  var fault: [String] = []

  @Option(
    help: ArgumentHelp("Read what to serve from a file instead of the command line.", valueName: "file"),
    completion: .file(extensions: ["toml"]))
  var config: String?

  @Flag(help: "Allow TCP addresses that other machines can reach; nothing is encrypted.")
  var allowPlaintext = false

  @Option(help: ArgumentHelp("Permissions of Unix sockets, octal. (default: 0600)", valueName: "mode"))
  var socketMode: String?

  @Option(
    help: ArgumentHelp(
      "Serve metrics and a dashboard over HTTP on HOST:PORT or a Unix socket's path; without a port, 9810.",
      valueName: "address"))
  var metrics: String?

  @Option(
    help: ArgumentHelp(
      "Log from this level up: trace, debug, info, notice, warning, error. (default: info)", valueName: "level"))
  var logLevel: Logger.Level?

  @Option(
    help: ArgumentHelp(
      "How log lines look: text, json or journal. (default: journal where the journal reads them, else text)",
      valueName: "format"))
  var logFormat: LogStyle?

  @OptionGroup(title: "Captive servers")
  var captive: CaptiveOptions

  #if GUARD_SWITCHES
  @Option(help: .hidden) var withoutGuard: [Guard] = []
  #endif

  @Argument(help: ArgumentHelp("Images to serve.", valueName: "image"), completion: .file())
  var images: [String] = []

  func run() throws {
    let captivity = try Captivity(captive)
    let inherited = try inheritedSockets()
    var directories = RuntimeDirectories.ofThisProcess()
    directories.listensElsewhere = !inherited.isEmpty || captive.replacesDefaultListeners
    directories.isCaptive = captive.replacesDefaultListeners
    var plan = try makePlan(directories)
    plan.makeRuntimeDirectoryIfUsed(directories)
    try captivity.adopt(&plan, inherited: inherited.count)
    #if GUARD_SWITCHES
    plan.guards = GuardSwitches(without: withoutGuard)
    #endif
    let log = plan.log.overridden(style: logFormat, level: logLevel)
    LoggingSystem.bootstrap { _ in
      StderrLogHandler(style: log.style ?? .ofStandardError(), level: log.level ?? .info)
    }
    let inheritedAddresses = try plan.adopt(inherited)
    let sockets = zip(inherited, inheritedAddresses).map { ($0.descriptor, $1) }
    try serve(
      plan, inherited: sockets, manager: ServiceManager.takeFromEnvironment(), captivity: captivity,
      logger: Logger(label: "holdfast"), readConfiguration: configurationReader(directories, inheritedAddresses))
  }

  /// How a reload reads what to serve: as it was read at the start.
  private func configurationReader(
    _ directories: RuntimeDirectories, _ inherited: [SocketAddress]
  ) -> (@Sendable () throws(CommandFailure) -> ServePlan)? {
    guard let config else { return nil }
    return { () throws(CommandFailure) in
      var plan = try readConfigurationFile(config, resolve: SocketAddress.resolve, directories: directories)
      plan.listeners.removeAll { inherited.contains($0) }
      return plan
    }
  }

  private func inheritedSockets() throws(CommandFailure) -> [InheritedSocket] {
    do throws(Errno) { return try InheritedSocket.takeFromEnvironment() } catch {
      throw CommandFailure(.usage, "LISTEN_FDS is not a number of sockets from 0 to 1024; it is for service managers")
    }
  }

  /// What the arguments, or the file they name, ask for.
  private func makePlan(_ directories: RuntimeDirectories) throws(CommandFailure) -> ServePlan {
    guard let config else { return try plan(resolve: SocketAddress.resolve, directories: directories) }
    try refuseArgumentsBesideConfiguration()
    return try readConfigurationFile(config, resolve: SocketAddress.resolve, directories: directories)
  }
}

#if GUARD_SWITCHES
// Debug builds only: `--without-guard rangeLock`, for the scenarios of holdfast-torture.
extension Guard: ExpressibleByArgument {
  package init?(argument: String) {
    guard let named = Guard.allCases.first(where: { "\($0)" == argument }) else { return nil }
    self = named
  }
}
#endif

extension Logger.Level: @retroactive ExpressibleByArgument {}

extension LogStyle: ExpressibleByArgument {}
