// Reading the configuration again, while it is served: SIGHUP and the admin socket come here. All or nothing, up to the moment when
// everything new is open; clients of exports that have not changed notice nothing.

import HoldfastServer
import Locking
import Logging
import NBDServerCore
import SparseFile
import Syscalls
import SystemPackage

extension ExportControl {
  /// Blocks for files and disks. Logs what it does, and tells the service manager.
  /// - Throws: every line of what is wrong with the configuration, or why an image does not open. Nothing has been changed then.
  func reload() throws(CommandFailure) -> ReloadReport {
    watcher.withLock { $0 }?.reloadBegins()
    do throws(CommandFailure) {
      let report = try turn.withLock { _ throws(CommandFailure) in try change(to: try newPlan()) }
      for line in report.lines { logger.notice("reload: \(line)") }
      logger.notice("reload: the configuration is in force")
      server.noteReload(succeeded: true)
      watcher.withLock { $0 }?.reloadEnded(mistake: nil)
      return report
    } catch {
      for line in error.lines { logger.error("reload: \(line)") }
      logger.error("reload: nothing was changed")
      server.noteReload(succeeded: false)
      watcher.withLock { $0 }?.reloadEnded(mistake: error.lines.first)
      throw error
    }
  }

  private func newPlan() throws(CommandFailure) -> ServePlan {
    guard let readConfiguration else {
      throw CommandFailure(.usage, "there is no configuration to read again: the command line says what is served")
    }
    return try readConfiguration()
  }

  /// On a thread of its own; while one reload runs, another is queued behind it, and no more.
  func reloadSoon() {
    guard !reloadIsQueued.exchange(true, ordering: .sequentiallyConsistent) else { return }
    let body: @Sendable () -> Void = { [self] in
      reloadTurn.withLock { _ in
        // From here on the configuration is read: who asks now may mean something newer.
        reloadIsQueued.store(false, ordering: .sequentiallyConsistent)
        // It has been logged.
        _ = try? reload()
      }
    }
    do throws(Errno) { try PosixThread.spawn(name: "reload", body) } catch {
      reloadIsQueued.store(false, ordering: .sequentiallyConsistent)
      logger.error("reload: no thread: \(error); nothing was changed")
    }
  }

  /// With the turn.
  private func change(to plan: ServePlan) throws(CommandFailure) -> ReloadReport {
    let (running, old) = state.withLock { ($0.running, $0.plan) }
    let meanings = running.map { ($0.export.plan, $0.file.pathMeaning()) }
    let stale = Set(meanings.filter { $0.1 == .anotherFile }.map(\.0.name))
    var change = ConfigurationChange(from: running.map(\.export), old, to: plan, stale: stale)
    for (gone, meaning) in meanings where meaning == .nothing {
      change.notices.append(
        "export \"\(gone.name)\": \(gone.path) names no file any more; clients still get the old one, and a restart would not find it"
      )
    }
    let opened = try images.open(
      change.added + change.replaced, defaultExport: plan.defaultExport)
    do throws(ExportChangeError) {
      try apply(change, opened, plan)
    } catch {
      // Only a server that shuts down refuses what was checked before.
      throw CommandFailure(error)
    }
    return ReloadReport(change)
  }

  private func apply(
    _ change: ConfigurationChange, _ opened: [OpenedExport], _ plan: ServePlan
  ) throws(ExportChangeError) {
    for name in change.removed {
      do throws(ExportChangeError) { try server.remove(name, .drain) } catch {
        // What has gone since is gone.
        guard case .noSuchExport = error else { throw error }
      }
      state.withLock { $0.running.removeAll { $0.export.plan.name == name } }
    }
    let new = Dictionary(opened.map { ($0.plan.name, $0) }, uniquingKeysWith: { first, _ in first })
    let replaced = Set(change.replaced.map(\.name))
    // Whoever answers to the empty name comes last: it is free then.
    let steps = change.changed + change.replaced + change.added
    for step in steps.filter({ $0.name != plan.defaultExport }) + steps.filter({ $0.name == plan.defaultExport }) {
      if let opened = new[step.name] {
        if replaced.contains(step.name) {
          try server.replace(step.name, with: opened.export)
        } else {
          try server.add(opened.export)
        }
        put(ExportControl.Running(plan, opened))
      } else if let image = server.image(named: step.name), var running = running(step.name) {
        let isDefault = step.name == plan.defaultExport
        try server.change(step.name, to: step.export(of: image, isDefault: isDefault))
        running.export = RunningExport(plan: step, isDefault: isDefault, isConfigured: true)
        put(running)
      }
    }
    let order = Dictionary(uniqueKeysWithValues: plan.exports.enumerated().map { ($1.name, $0) })
    state.withLock { state in
      state.plan = plan
      state.running.sort { order[$0.export.plan.name, default: .max] < order[$1.export.plan.name, default: .max] }
    }
  }

  private func put(_ running: ExportControl.Running) {
    state.withLock { state in
      let name = running.export.plan.name
      if let index = state.running.firstIndex(where: { $0.export.plan.name == name }) {
        state.running[index] = running
      } else {
        state.running.append(running)
      }
    }
  }
}

/// Who wants to know of reloads: the service manager, statistics.
protocol ReloadWatcher: Sendable {
  func reloadBegins()
  /// - Parameter mistake: why nothing was changed.
  func reloadEnded(mistake: String?)
}
