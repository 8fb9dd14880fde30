// What an export has been asked, by all connections that ever had it. Counters of a connection go over into those of its export
// in one step, under one lock, so that a total never falls and nothing is counted twice.

import Locking
import NBDProtocol
import NBDServerCore

final class ExportStatistics: Sendable {
  private struct State {
    var living: [ObjectIdentifier: ConnectionStatistics] = [:]
    var ended = PerCommand<CommandCounts>()
    var connectionsTotal: UInt64 = 0
    var errors: [RequestErrorKey: UInt64] = [:]
    var refusals: [RefusalReason: UInt64] = [:]
  }

  private let state = Locked(State())

  init() {}

  /// A connection chose the export.
  func attach(_ connection: ConnectionStatistics) {
    state.withLock { state in
      state.living[ObjectIdentifier(connection)] = connection
      state.connectionsTotal += 1
    }
  }

  /// It is closed, and will be answered nothing more.
  func detach(_ connection: ConnectionStatistics) {
    state.withLock { state in
      guard state.living.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
      state.ended += connection.counts
    }
  }

  /// A request was answered with an error.
  func note(_ error: RequestErrorKey) { state.withLock { $0.errors[error, default: 0] += 1 } }

  func note(_ refusal: RefusalReason) { state.withLock { $0.refusals[refusal, default: 0] += 1 } }

  var isInUse: Bool { state.withLock { !$0.living.isEmpty } }

  /// Fills in what is counted here.
  func report(to status: inout ExportStatus) {
    let (counts, total, living, errors, refusals) = state.withLock { state in
      var counts = state.ended
      for connection in state.living.values { counts += connection.counts }
      return (counts, state.connectionsTotal, state.living.count, state.errors, state.refusals)
    }
    status.commands = counts
    status.connectionsTotal = total
    status.connections = living
    status.errors = errors
    status.refusals = refusals
  }
}
