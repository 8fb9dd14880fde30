// Carries a plan out: images, sockets, signals, and the end.

import EventLoops
import Glibc
import HoldfastServer
import Locking
import Logging
import NBDServerCore
import Reports
import SparseFile
import Syscalls
import SystemPackage

/// Serves until a signal ends the process.
/// - Parameters:
///   - inherited: sockets that listen already.
///   - manager: who wants to hear how we are.
///   - captivity: whose life ends ours.
///   - readConfiguration: reads what to serve again; nil when no configuration said it.
func serve(
  _ plan: ServePlan, inherited: [(descriptor: Int32, address: SocketAddress)], manager: ServiceManager?,
  captivity: Captivity, logger: Logger,
  readConfiguration: (@Sendable () throws(CommandFailure) -> ServePlan)? = nil
) throws(CommandFailure) -> Never {
  var plan = plan
  prepareProcess(plan, logger)

  let cpus = onlineCPUCount()
  let lanes = Lanes(workersAwakeMax: Server.workersAwakeMax(cpus: cpus))
  let images = OpenImages(lanes: lanes, guards: plan.guards, logger: logger)
  var opened = try images.open(plan.exports, defaultExport: plan.defaultExport)
  var limits = Limits()
  limits.connectionsMax = plan.connectionsMax
  limits.slowOperationMilliseconds = plan.log.slowOperationMilliseconds
  let server = Server(
    exports: opened.map(\.export), limits: limits, cpus: cpus, spins: plan.spins, coldReads: .ofEnvironment,
    logger: logger, guards: plan.guards)
  let metrics = MetricsServer(server, version: holdfastVersion)
  let control = ExportControl(
    server: server, images: images, opened: opened, plan: plan, logger: logger, readConfiguration: readConfiguration)
  // This function never returns: what it holds would stay open when its export goes.
  opened.removeAll()
  let supervision = manager.map { Supervision($0, server: server, exports: { server.exportCount }, logger: logger) }
  let ending = Ending(server, supervision, logger: logger)
  // Until then it says what is waited for.
  ending.atEnd { metrics.close() }
  #if GUARD_SWITCHES
  hangWhenAsked(server.loop, logger)
  #endif
  do throws(CommandFailure) {
    try endOnSignals(server, ending, logger)
    control.watcher.withLock { $0 = supervision }
    try reloadOnSignal(control)
    try captivity.prepare(&plan, inherited: inherited.count, server, ending, logger)
    try server.listen(on: inherited)
    let listeners = inherited.map(\.address) + (try server.listen(plan, beside: inherited.map(\.address)))
    let rows = server.exportSnapshot().map {
      StartupReport.Row(name: $0.export.name, sizeBytes: $0.sizeBytes, isReadOnly: $0.isReadOnly)
    }
    let metricsAddresses = try metrics.listen(plan)
    if !captivity.isSilent {
      let report = StartupReport(
        rows: rows, listeners: listeners, metrics: metricsAddresses, isByHand: manager == nil)
      try writeToStandardOutput(report.text)
    }
    let service = AdminService(
      server: server, exports: control, status: { statusReport(of: server) }, logger: logger)
    if let admin = try openAdminSocket(plan.admin, service: service, loop: server.loop, logger: logger) {
      ending.atEnd { admin.close() }
    }
    try captivity.begin(plan, at: listeners, server, ending)
    supervision?.begin()
  } catch {
    // Sockets that were made are removed; nothing has been served.
    ending.fail(error)
  }
  watchImages({ control.files }, logger: logger)
  sleepForEver()
}

/// SIGHUP: read the configuration again. The loop does not wait for that.
private func reloadOnSignal(_ control: ExportControl) throws(CommandFailure) {
  do throws(Errno) {
    try control.server.loop.onSignal(SIGHUP) {
      control.logger.notice("SIGHUP: reading the configuration again")
      control.reloadSoon()
    }
  } catch {
    throw CommandFailure(.internalError, "cannot handle signals: \(reason(error))")
  }
}

private func prepareProcess(_ plan: ServePlan, _ logger: Logger) {
  do throws(Errno) {
    try ignoreFatalIOSignals()
    // Connections, and as much again for images, threads and the event loop.
    let wanted = UInt64(plan.connectionsMax) * 2 + 1024
    let soft = try DescriptorLimit.raise(to: wanted)
    if soft < UInt64(plan.connectionsMax) + 64 {
      logger.warning(
        "only \(soft) descriptors are allowed for \(plan.connectionsMax) connections; raise the hard limit (ulimit -Hn)"
      )
    }
  } catch {
    logger.warning("cannot prepare the process: \(error)")
  }
}

/// What `holdfast status` is answered.
private func statusReport(of server: Server) -> JSON {
  var status = server.status()
  status.version = holdfastVersion
  return .text(statusJSON(status))
}

/// A signal that comes again so soon is the same one.
private let repeatedSignalNanoseconds: Int64 = 200_000_000

/// The first SIGTERM or SIGINT finishes what is in flight and syncs; the second ends the process at once.
private func endOnSignals(_ server: Server, _ ending: Ending, _ logger: Logger) throws(CommandFailure) {
  do throws(Errno) {
    let first = Locked<Int64?>(nil)
    for (number, name) in [(SIGTERM, "SIGTERM"), (SIGINT, "SIGINT")] {
      try server.loop.onSignal(number) {
        let now = MonotonicClock.nanoseconds
        let begun = first.withLock { first in
          if first == nil { first = now }
          return first ?? now
        }
        guard begun == now else {
          // A supervisor may send it to the process and to its group: that is one wish to stop, not two.
          guard now - begun > repeatedSignalNanoseconds else { return }
          logger.critical("\(name) again: ending before the last sync; acknowledged writes may be lost")
          _exit(ExitStatus.ioError.rawValue)
        }
        logger.notice("\(name): stopping; send it again to stop at once")
        ending.begin(signal: number)
      }
    }
  } catch {
    throw CommandFailure(.internalError, "cannot handle signals: \(reason(error))")
  }
}
