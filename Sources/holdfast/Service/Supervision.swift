// Keeps the service manager informed (sd_notify(3)): that we serve, what we do, that we are alive, that the end takes time.

import EventLoops
import HoldfastServer
import Locking
import Logging
import Syscalls
import SystemPackage

/// What the manager is told, as assignments. Pure.
enum ServiceState {
  case serving(exports: Int, connections: Int)
  /// The configuration is read again, at this moment of the monotonic clock.
  case reloading(microseconds: Int64)
  case stopping

  var assignments: [String] {
    switch self {
    case .serving: ["STATUS=\(status)"]
    case .reloading(let microseconds): ["RELOADING=1", "MONOTONIC_USEC=\(microseconds)", "STATUS=\(status)"]
    case .stopping: ["STOPPING=1", "STATUS=\(status)"]
    }
  }

  var status: String {
    switch self {
    case .serving(let exports, let connections):
      "serving \(count(exports, "export")), \(count(connections, "connection"))"
    case .reloading: "reading the configuration again"
    case .stopping: "finishing what is in flight, then syncing"
    }
  }

  private func count(_ number: Int, _ noun: String) -> String { "\(number) \(noun)\(number == 1 ? "" : "s")" }
}

/// Speaks to the manager for one server. Its timers run on the server's loop, so that a loop that hangs is noticed.
final class Supervision: ReloadWatcher {
  /// While stopping, the manager is asked every `extensionSeconds / 3` for `extensionSeconds` more.
  private static let extensionSeconds = 15
  private static let statusSeconds = 5

  private let manager: ServiceManager
  private let server: Server
  private let exports: @Sendable () -> Int
  private let logger: Logger
  private let state = Locked(State())

  private struct State {
    /// As the manager took it.
    var lastStatus = ""
    var isReady = false
    var isReloading = false
    /// Why the last reload changed nothing: part of the status until the next one.
    var mistake: String?
    var isStopping = false
    /// A worker has not yet taken the no-op that it was sent.
    var isProbing = false
    var saidBusy = false
  }

  init(_ manager: ServiceManager, server: Server, exports: @escaping @Sendable () -> Int, logger: Logger) {
    self.manager = manager
    self.server = server
    self.exports = exports
    self.logger = logger
  }

  /// Every export is open and every socket listens. Once.
  func begin() {
    tellStatus()
    server.loop.every(milliseconds: Supervision.statusSeconds * 1000) { [self] in tellStatus() }
    guard let interval = manager.watchdogMicroseconds else { return }
    // Three times as often as asked for: one message may be missed, or sent late.
    server.loop.every(milliseconds: max(1, Int(min(interval, 1 << 40) / 3000))) { [self] in feedWatchdog() }
  }

  /// The configuration is about to be read again. Any thread; `reloadEnded` has to follow.
  func reloadBegins() {
    state.withLock { $0.isReloading = true }
    tell(ServiceState.reloading(microseconds: MonotonicClock.nanoseconds / 1000).assignments)
  }

  /// It has been read. Any thread.
  /// - Parameter mistake: why nothing was changed, if so; it stays in the status.
  func reloadEnded(mistake: String?) {
    state.withLock { state in
      state.isReloading = false
      state.mistake = mistake
      // READY=1 is told again, even if nothing else is new.
      (state.isReady, state.lastStatus) = (false, "")
    }
    tellStatus()
  }

  /// The server ends: it takes as long as the disk does, and says so as long as the loop runs. Once.
  func stop() {
    state.withLock { $0.isStopping = true }
    tell(ServiceState.stopping.assignments + [extend])
    server.loop.every(milliseconds: Supervision.extensionSeconds * 1000 / 3) { [self] in tell([extend]) }
  }

  private var extend: String { "EXTEND_TIMEOUT_USEC=\(Supervision.extensionSeconds * 1_000_000)" }

  private var serving: ServiceState { .serving(exports: exports(), connections: server.connectionCount) }

  /// READY=1 comes first, and is repeated until it has been taken: the manager's queue may be full for a moment.
  private func tellStatus() {
    let serving = serving.status
    let (status, isNews, isReady) = state.withLock { state in
      let status = state.mistake.map { "\(serving); \(withoutControlCharacters($0))" } ?? serving
      return (status, state.lastStatus != status && !state.isStopping && !state.isReloading, state.isReady)
    }
    guard isNews else { return }
    guard tell((isReady ? [] : ["READY=1"]) + ["STATUS=\(status)"]) else { return }
    state.withLock { ($0.lastStatus, $0.isReady) = (status, true) }
  }

  // MARK: The watchdog

  /// The loop runs, or this would not. A worker that is free takes a no-op within one interval; when all are busy in the kernel, the
  /// disk is slow, which a restart does not make better.
  private func feedWatchdog() {
    let isAnswered = state.withLock { state in
      defer { state.isProbing = true }
      return !state.isProbing
    }
    if isAnswered {
      server.whenAWorkerIsFree { [self] in state.withLock { ($0.isProbing, $0.saidBusy) = (false, false) } }
    } else {
      guard server.allWorkersAreBusy else { return }
      let isNew = state.withLock { exchange(&$0.saidBusy, with: true) == false }
      if isNew { logger.warning("all workers are busy: requests wait, for a slow disk perhaps") }
    }
    tell(["WATCHDOG=1"])
  }

  /// - Returns: whether the manager took it.
  @discardableResult
  private func tell(_ assignments: [String]) -> Bool {
    do throws(Errno) {
      try manager.tell(assignments)
      return true
    } catch {
      logger.debug("the service manager was not told \(assignments.joined(separator: ", ")): \(error)")
      return false
    }
  }
}
