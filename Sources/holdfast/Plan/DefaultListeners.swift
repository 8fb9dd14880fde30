// Where the server listens when nobody says: reachable from this machine only.

import Syscalls

/// What the environment says about the place for sockets.
struct RuntimeDirectories: Equatable, Sendable {
  var isRoot: Bool
  /// systemd's RUNTIME_DIRECTORY: set for units that ask for one.
  var unitDirectory: String?
  /// XDG_RUNTIME_DIR.
  var userDirectory: String?
  /// A service manager has opened sockets for this process.
  var socketsAreInherited = false

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
    // Whoever opened sockets for us has said where.
    if directories.socketsAreInherited { return }
    guard let directory = directories.socketDirectory else {
      throw AddressMistake(
        clause: "XDG_RUNTIME_DIR is not set, so there is no place for a socket; "
          + "pass --unix PATH or --tcp 127.0.0.1:\(defaultPort)")
    }
    socketDirectory = directory
    listeners = [.unix(path: "\(directory)/nbd.sock"), .ipv4(bytes: [127, 0, 0, 1], port: defaultPort)]
  }
}
