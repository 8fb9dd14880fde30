// Where operators talk to the daemon.

/// The admin socket of a plan.
struct AdminPlan: Equatable, Sendable {
  /// A path; nil: there is none.
  var socket: String?
  /// Nobody asked for it: when it cannot be made, the daemon serves without.
  var isDefault = false
}

extension RuntimeDirectories {
  /// Beside the default NBD socket.
  var adminSocket: String? { socketDirectory.map { "\($0)/admin.sock" } }
}

extension ServePlan {
  /// Where the daemon is found without being told.
  mutating func takeOrdersByDefault(_ directories: RuntimeDirectories) {
    guard !directories.isCaptive else { return }
    admin = AdminPlan(socket: directories.adminSocket, isDefault: true)
  }
}
