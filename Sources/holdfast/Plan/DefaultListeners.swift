// Where the server listens when nobody says: reachable from this machine only.

import Syscalls

/// What the environment says about the place for sockets.
struct RuntimeDirectories: Equatable, Sendable {
  var isRoot: Bool
  /// systemd's RUNTIME_DIRECTORY: set for units that ask for one.
  var unitDirectory: String?
  /// XDG_RUNTIME_DIR.
  var userDirectory: String?
  /// There are no default sockets: a service manager has opened some for this process, or it is to serve a command or a client of its
  /// own (`CaptiveOptions`).
  var listensElsewhere = false
  /// Such a command or client is there: many of these servers run side by side, and nobody gives them orders.
  var isCaptive = false

  static func ofThisProcess() -> RuntimeDirectories {
    RuntimeDirectories(
      isRoot: isRunByRoot(), unitDirectory: environmentVariable("RUNTIME_DIRECTORY"),
      userDirectory: environmentVariable("XDG_RUNTIME_DIR"))
  }

  /// The directory of the default socket; nil when there is no place that only this user can write to.
  var socketDirectory: String? {
    if let unitDirectory, let first = unitDirectory.split(separator: ":").first { return String(first) }
    if isRoot { return "/run/holdfast" }
    if let userDirectory, !userDirectory.isEmpty { return "\(userDirectory)/holdfast" }
    return nil
  }
}

extension ServePlan {
  /// A Unix socket and 127.0.0.1.
  /// - Throws: a clause that says what to pass instead.
  mutating func listenByDefault(_ directories: RuntimeDirectories) throws(AddressMistake) {
    listenersOrigin = .nobody
    takeOrdersByDefault(directories)
    if directories.listensElsewhere { return }
    guard let directory = directories.socketDirectory else {
      throw AddressMistake(
        clause: "XDG_RUNTIME_DIR is not set, so there is no place for a socket; "
          + "pass --unix PATH or --tcp 127.0.0.1:\(defaultPort)")
    }
    socketDirectory = directory
    listeners = [.unix(path: "\(directory)/nbd.sock"), .ipv4(bytes: [127, 0, 0, 1], port: defaultPort)]
  }

  /// The runtime directory is made for a socket in it, whoever named that: a configuration that works under a service manager, which
  /// makes the directory itself, works by hand as well.
  mutating func makeRuntimeDirectoryIfUsed(_ directories: RuntimeDirectories) {
    guard let directory = directories.socketDirectory else { return }
    for case .unix(let path) in listeners where path.hasPrefix("\(directory)/") { socketDirectory = directory }
  }
}
