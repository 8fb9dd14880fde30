// Puts the status of a server together. Takes the lock of each part for a moment, one after the other, so that whoever looks at a
// server never keeps it.

import BlockBackend
import NBDServerCore
import Syscalls

extension Server {
  /// What the server does now. Any thread but the loop: it asks every connection.
  package func status() -> ServerStatus {
    var status = ServerStatus()
    let now = MonotonicClock.nanoseconds
    let living = connections.sorted { $0.id < $1.id }
    status.isShuttingDown = isShuttingDown
    status.connections = living.map { $0.status(now: now) }
    let held = heldBytes(of: living.map(\.id))
    for index in status.connections.indices { status.connections[index].heldBytes = held[index] }
    status.exports = exportStatuses(status.connections)
    var seen: Set<ObjectIdentifier> = []
    var common: [ImageStatistics] = []
    for image in servedImages where seen.insert(ObjectIdentifier(image)).inserted {
      let (held, waiting) = image.lockCounts
      status.locks.held += held
      status.locks.waiting += waiting
      common.append(image.statistics)
    }
    statistics.report(to: &status, images: common)
    status.memory = memoryStatus
    let workers = workers.counts
    status.workers.threads = workers.threads
    status.workers.awake = workers.awake
    status.workers.itemsWaiting = workers.waiting
    status.workers.awakeMax = Server.workersAwakeMax(cpus: cpus)
    let threshold = slowOperations.thresholdNanoseconds
    if threshold < Int64.max {
      status.slowOperationSeconds = Double(threshold) / 1e9
      status.slowOperations = living.flatMap {
        $0.operations(before: now - threshold, countMax: ServerStatus.slowOperationsMax)
      }.sorted { $0.operation.beganNanoseconds < $1.operation.beganNanoseconds }
        .prefix(ServerStatus.slowOperationsMax).compactMap { $0.status(now: now) }
    }
    return status
  }

  private func exportStatuses(_ connections: [ConnectionStatus]) -> [ExportStatus] {
    var inFlight: [String: Int] = [:]
    for connection in connections {
      if let export = connection.export { inFlight[export, default: 0] += connection.inFlight }
    }
    return servedExports.map { export, image in
      var status = export
      statistics.export(named: export.name)?.report(to: &status)
      status.inFlight = inFlight[export.name] ?? 0
      status.latchedErrno = image.latchedError
      status.allocatedBytes = image.backend.allocatedBytes
      (status.locksHeld, status.lockWaiters) = image.lockCounts
      return status
    }
  }
}

extension Connection {
  func status(now: Int64) -> ConnectionStatus {
    var status = ConnectionStatus(id: id.rawValue, peer: "\(peer)")
    status.ageSeconds = Double(now / 1_000_000 - acceptedMilliseconds) / 1000
    status.idleSeconds = Double(stalledMilliseconds(now: now / 1_000_000)) / 1000
    let (life, isLeased, isPaused) = replies.withLock { ($0.life, $0.isLeased, $0.isPaused) }
    (status.inFlight, status.queuedBytes) = replies.withLock { ($0.inFlightCount, $0.outgoingBytes) }
    if let transmission {
      status.export = transmission.session.export.name
      status.commands = transmission.statistics.counts
    }
    status.state =
      switch life {
      case .dead: .dead
      case .finishing: .finishing
      case .open where isNegotiating: .negotiating
      case .open where isPaused: .paused
      case .open: isLeased || status.inFlight > 0 ? .serving : .idle
      }
    return status
  }
}
