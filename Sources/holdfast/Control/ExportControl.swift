// Changes what is served while the server runs, whoever asks: the configuration, or an operator. Keeps server, images and plans
// in step.

import BlockBackend
import HoldfastServer
import Locking
import Logging
import NBDServerCore
import SparseFile
import Synchronization
import Syscalls
import SystemPackage

/// One for the process. Every function may block for a disk: call them on a thread of your own, never on the loop. They take
/// their turns.
final class ExportControl: Sendable {
  let server: Server
  let logger: Logger
  let images: OpenImages
  /// How the configuration is read again; nil: it came from the command line.
  let readConfiguration: (@Sendable () throws(CommandFailure) -> ServePlan)?
  /// Held for the whole of an operation, also while it waits for a disk: nobody spins for it, operators can wait.
  let turn = Locked<Void>(())
  /// Held by who reloads on a thread of its own.
  let reloadTurn = Locked<Void>(())
  let reloadIsQueued = Atomic<Bool>(false)
  let watcher = Locked<(any ReloadWatcher)?>(nil)
  let state: Locked<State>

  struct State {
    /// In the order in which clients see them.
    var running: [Running]
    /// What was read last.
    var plan: ServePlan
  }

  struct Running {
    var export: RunningExport
    var file: ImageFile
  }

  init(
    server: Server, images: OpenImages, opened: [OpenedExport], plan: ServePlan, logger: Logger,
    readConfiguration: (@Sendable () throws(CommandFailure) -> ServePlan)? = nil
  ) {
    self.server = server
    self.images = images
    self.logger = logger
    self.readConfiguration = readConfiguration
    let running = opened.map { Running(plan, $0) }
    state = Locked(State(running: running, plan: plan))
  }

  // MARK: For operators

  /// Serves one more.
  func add(_ plan: ExportPlan) throws(CommandFailure) {
    try turn.withLock { _ throws(CommandFailure) in
      guard running(plan.name) == nil else {
        throw CommandFailure(
          .usage, "there is an export \"\(plan.name)\" already; remove it first, or choose another name")
      }
      guard let opened = try images.open([plan], defaultExport: nil).first else { return }
      do throws(ExportChangeError) { try server.add(opened.export) } catch {
        if opened.isNew { try? Files.unlink(opened.file.path) }
        throw CommandFailure(error)
      }
      state.withLock { $0.running.append(Running(opened, isDefault: false, isConfigured: false)) }
      logger.notice("added at an operator's wish: \(plan.path)", metadata: ["export": "\(plan.name)"])
    }
  }

  /// What became of an export that was to be removed.
  struct RemovalReport: Sendable, Equatable {
    /// That had it when it was removed.
    var connections: Int
    /// Its last client has gone, and its image is closed unless another export shows it.
    var isGone: Bool
    /// Of the last sync of its image.
    var syncError: Errno?
  }

  /// - Parameter waitSeconds: for the last client to go, and for the last sync. `.hide` does not wait.
  func remove(_ name: String, _ mode: RemovalMode, waitSeconds: Int) throws(CommandFailure) -> RemovalReport {
    // An empty variable in a script must not take the default export away.
    guard !name.isEmpty else { throw CommandFailure(.usage, "an export is removed by its own name; this one is empty") }
    let gone = Latch<Departure>()
    let connections = try turn.withLock { _ throws(CommandFailure) in
      let count: Int
      do throws(ExportChangeError) { count = try server.remove(name, mode, whenGone: { gone.open($0) }) } catch {
        throw CommandFailure(error)
      }
      if mode != .hide { state.withLock { $0.running.removeAll { $0.export.plan.name == name } } }
      return count
    }
    logger.notice("removed at an operator's wish (\(mode.rawValue))", metadata: ["export": "\(name)"])
    guard mode != .hide else { return RemovalReport(connections: connections, isGone: false) }
    let departure = gone.wait(seconds: waitSeconds)
    return RemovalReport(
      connections: connections, isGone: departure != nil, syncError: departure?.syncError)
  }

  func show(_ name: String) throws(CommandFailure) {
    do throws(ExportChangeError) { try server.show(name) } catch { throw CommandFailure(error) }
  }

  /// - Returns: bytes of the image.
  func resize(_ name: String, to sizeBytes: UInt64) throws(CommandFailure) -> (old: UInt64, new: UInt64) {
    try turn.withLock { _ throws(CommandFailure) in
      do throws(ExportChangeError) {
        let sizes = try server.grow(name, to: sizeBytes)
        logger.notice("the image has grown from \(sizes.old) to \(sizes.new) bytes", metadata: ["export": "\(name)"])
        return sizes
      } catch { throw CommandFailure(error) }
    }
  }

  /// - Parameter waitSeconds: for what was admitted before to end.
  /// - Returns: whether it has.
  func pause(_ name: String, waitSeconds: Int) throws(CommandFailure) -> Bool {
    do throws(ExportChangeError) {
      try server.pause(name)
      logger.notice("paused at an operator's wish", metadata: ["export": "\(name)"])
      let end = MonotonicClock.nanoseconds + Int64(waitSeconds) * 1_000_000_000
      while try !server.isQuiet(name) {
        guard MonotonicClock.nanoseconds < end else { return false }
        sleepMilliseconds(10)
      }
      return true
    } catch { throw CommandFailure(error) }
  }

  func resume(_ name: String) throws(CommandFailure) {
    do throws(ExportChangeError) { try server.resume(name) } catch { throw CommandFailure(error) }
    logger.notice("goes on at an operator's wish", metadata: ["export": "\(name)"])
  }

  // MARK: Looking; these do not wait for a turn

  /// Of what is served, without what is leaving.
  var plans: [ExportPlan] { state.withLock { $0.running.map(\.export.plan) } }

  func path(of name: String) -> String? { running(name)?.export.plan.path }

  /// Files that are served, by the name of an export.
  var files: [(name: String, file: ImageFile)] {
    state.withLock { $0.running.map { ($0.export.plan.name, $0.file) } }
  }

  func running(_ name: String) -> Running? {
    state.withLock { $0.running.first { $0.export.plan.name == name } }
  }
}

extension ExportControl.Running {
  init(_ opened: OpenedExport, isDefault: Bool, isConfigured: Bool) {
    export = RunningExport(plan: opened.plan, isDefault: isDefault, isConfigured: isConfigured)
    file = opened.file
  }

  init(_ plan: ServePlan, _ opened: OpenedExport) {
    self.init(opened, isDefault: opened.plan.name == plan.defaultExport, isConfigured: true)
  }
}

extension CommandFailure {
  init(_ error: ExportChangeError) {
    let status: ExitStatus
    switch error {
    case .noSuchExport: status = .noInput
    case .nameIsTaken, .doesNotFit: status = .usage
    case .inUse, .shuttingDown: status = .unavailable
    case .cannotGrow: status = .badImage
    }
    self.init(status, "\(error)")
  }
}
