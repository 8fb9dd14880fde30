// Carries a plan out: images, sockets, signals, and the end.

import EventLoops
import Glibc
import HoldfastServer
import Locking
import Logging
import NBDServerCore
import SparseFile
import Syscalls
import SystemPackage

/// Serves until a signal ends the process.
/// - Parameters:
///   - inherited: sockets that listen already.
///   - manager: who wants to hear how we are.
func serve(
  _ plan: ServePlan, inherited: [(descriptor: Int32, address: SocketAddress)], manager: ServiceManager?, logger: Logger
) throws(CommandFailure) -> Never {
  prepareProcess(plan, logger)

  let cpus = onlineCPUCount()
  let lanes = Lanes(workersAwakeMax: Server.workersAwakeMax(cpus: cpus))
  let opened = try openExports(plan, lanes: lanes, logger: logger)
  var limits = Limits()
  limits.connectionsMax = plan.connectionsMax
  limits.slowOperationMilliseconds = plan.log.slowOperationMilliseconds
  let server = Server(
    exports: opened.exports, limits: limits, cpus: cpus, spins: plan.spins, coldReads: .ofEnvironment, logger: logger,
    guards: plan.guards)
  let metrics = MetricsServer(server, version: holdfastVersion)
  do throws(CommandFailure) {
    let supervision = manager.map { Supervision($0, server: server, exports: opened.exports.count, logger: logger) }
    try endOnSignals(server, metrics, supervision, logger)
    try server.listen(on: inherited)
    let listeners = inherited.map(\.address) + (try server.listen(plan, beside: inherited.map(\.address)))
    let rows = opened.exports.map {
      StartupReport.Row(
        name: $0.name, sizeBytes: $0.image.backend.geometry.sizeBytes,
        isReadOnly: $0.isReadOnly || !$0.image.backend.capabilities.contains(.writable))
    }
    let metricsAddresses = try metrics.listen(plan)
    try writeToStandardOutput(StartupReport(rows: rows, listeners: listeners, metrics: metricsAddresses).text)
    supervision?.begin()
  } catch {
    // Sockets that were made are removed; nothing has been served.
    let failure = error
    server.shutDown { _ in
      metrics.close()
      Holdfast.exit(with: failure)
    }
    sleepForEver()
  }
  watchImages(Array(zip(opened.exports.map(\.name), opened.files)), logger: logger)
  sleepForEver()
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

/// A signal that comes again so soon is the same one.
private let repeatedSignalNanoseconds: Int64 = 200_000_000

/// The first SIGTERM or SIGINT finishes what is in flight and syncs; the second ends the process at once.
private func endOnSignals(
  _ server: Server, _ metrics: MetricsServer, _ supervision: Supervision?, _ logger: Logger
) throws(CommandFailure) {
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
        supervision?.stop()
        server.shutDown { end in
          // Until here it says what is waited for.
          metrics.close()
          exit(end.failedSyncs.isEmpty ? 0 : ExitStatus.ioError.rawValue)
        }
      }
    }
    try server.loop.onSignal(SIGHUP) { logger.notice("SIGHUP: the configuration is read only at start") }
  } catch {
    throw CommandFailure(.internalError, "cannot handle signals: \(reason(error))")
  }
}
