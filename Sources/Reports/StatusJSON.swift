// The status of a server as JSON: what `holdfast status --json` prints and the dashboard reads.

import NBDProtocol
import NBDServerCore
import SystemPackage

/// Raised when a key changes its meaning or goes away.
package let statusSchemaVersion = 1

/// One line without its end. Bytes, seconds and counts, as the keys say; counters only grow while the server lives.
package func statusJSON(_ status: ServerStatus) -> String {
  var json = JSONWriter()
  json.object { json in
    json.field("schema", statusSchemaVersion)
    json.field("version", status.version)
    json.field("started_seconds", status.startedSeconds)
    json.field("now_seconds", status.nowSeconds)
    json.field("uptime_seconds", status.uptimeSeconds)
    json.field("shutting_down", status.isShuttingDown)
    json.key("exports")
    json.array(status.exports) { $0.export($1) }
    json.key("connections")
    json.array(status.connections) { $0.connection($1) }
    json.field("slow_operation_seconds", status.slowOperationSeconds)
    json.key("slow_operations")
    json.array(status.slowOperations) { $0.operation($1) }
    json.shared(status)
    json.key("latency")
    json.object { json in
      json.key("bounds_nanoseconds")
      json.array(LatencyHistogram.upperBounds) { $0.value($1) }
      json.key("commands")
      json.object { json in
        for command in CountedCommand.allCases {
          json.key(command.label)
          json.histogram(status.latencies[command])
        }
      }
    }
  }
  return json.text
}

extension JSONWriter {
  fileprivate mutating func export(_ export: ExportStatus) {
    object { json in
      json.field("name", export.name)
      json.field("path", export.path)
      json.field("description", export.description)
      json.field("size_bytes", export.sizeBytes)
      json.field("allocated_bytes", export.allocatedBytes)
      json.field("read_only", export.isReadOnly)
      json.field("paused", export.isPaused)
      json.field("hidden", export.isHidden)
      json.field("default", export.isDefault)
      json.field("connections", export.connections)
      json.field("connections_total", export.connectionsTotal)
      json.field("latched_errno", export.latchedErrno?.rawValue)
      json.field("latched_error", export.latchedErrno?.description)
      json.field("in_flight", export.inFlight)
      json.field("locks_held", export.locksHeld)
      json.field("lock_waiters", export.lockWaiters)
      json.field("connections_max", export.connectionsMax)
      json.field("requests_in_flight_max", export.requestsInFlightMax)
      json.field("bytes_max", export.bytesMax)
      json.key("commands")
      json.counts(export.commands)
      json.key("errors")
      json.array(export.errors.sorted { $0.key < $1.key }) { json, error in
        json.object { json in
          json.field("command", error.key.command.label)
          json.field("error", error.key.error.label)
          json.field("count", error.value)
        }
      }
      json.key("refusals")
      json.object { json in
        for reason in RefusalReason.allCases {
          if let count = export.refusals[reason] { json.field(reason.label, count) }
        }
      }
    }
  }

  fileprivate mutating func connection(_ connection: ConnectionStatus) {
    object { json in
      json.field("id", connection.id)
      json.field("peer", connection.peer)
      json.field("export", connection.export)
      json.field("state", connection.state.rawValue)
      json.field("age_seconds", connection.ageSeconds)
      json.field("idle_seconds", connection.idleSeconds)
      json.field("in_flight", connection.inFlight)
      json.field("queued_bytes", connection.queuedBytes)
      json.field("held_bytes", connection.heldBytes)
      json.key("commands")
      json.counts(connection.commands)
    }
  }

  fileprivate mutating func operation(_ operation: SlowOperation) {
    object { json in
      json.field("connection", operation.connection)
      json.field("export", operation.export)
      json.field("command", operation.command.label)
      json.field("offset", operation.offset)
      json.field("length", operation.length)
      json.field("age_seconds", operation.ageSeconds)
      json.field("waits_for", operation.state.rawValue)
    }
  }

  /// Commands that were never met are left out.
  private mutating func counts(_ commands: PerCommand<CommandCounts>) {
    object { json in
      for command in CountedCommand.allCases where commands[command].requests > 0 {
        let counts = commands[command]
        json.key(command.label)
        json.object { json in
          json.field("requests", counts.requests)
          json.field("errors", counts.errors)
          json.field("bytes", counts.bytes)
        }
      }
    }
  }

  fileprivate mutating func histogram(_ histogram: LatencyHistogram) {
    object { json in
      json.field("count", histogram.count)
      json.field("sum_nanoseconds", histogram.sumNanoseconds)
      json.field("p50_seconds", histogram.quantileSeconds(0.5))
      json.field("p99_seconds", histogram.quantileSeconds(0.99))
      json.key("buckets")
      json.array(histogram.buckets) { $0.value($1) }
    }
  }

  /// What belongs to no export.
  fileprivate mutating func shared(_ status: ServerStatus) {
    key("memory")
    object { json in
      json.field("charged_bytes", status.memory.chargedBytes)
      json.field("limit_bytes", status.memory.limitBytes)
      json.field("waiting_connections", status.memory.waitingConnections)
    }
    key("workers")
    object { json in
      json.field("threads", status.workers.threads)
      json.field("awake", status.workers.awake)
      json.field("awake_max", status.workers.awakeMax)
      json.field("waiting", status.workers.itemsWaiting)
    }
    key("locks")
    object { json in
      json.field("held", status.locks.held)
      json.field("waiting", status.locks.waiting)
      json.key("waits")
      json.histogram(status.locks.waits)
    }
    key("syncs")
    object { json in
      json.field("errors", status.syncs.errors)
      json.key("durations")
      json.histogram(status.syncs.durations)
    }
    key("effects")
    object { json in
      json.field("trimmed_bytes", status.effects.trimmedBytes)
      json.field("zeroed_by_punch_bytes", status.effects.zeroedByPunchBytes)
      json.field("zeroed_by_zero_range_bytes", status.effects.zeroedByZeroRangeBytes)
      json.field("zeroed_by_write_bytes", status.effects.zeroedByWriteBytes)
    }
    key("handshake_failures")
    object { json in
      for failure in HandshakeFailure.allCases {
        json.field(failure.rawValue, status.handshakeFailures[failure] ?? 0)
      }
    }
    key("reload")
    object { json in
      json.field("last_succeeded", status.reload.lastSucceeded)
      json.field("last_seconds", status.reload.lastSeconds)
      json.field("count", status.reload.count)
      json.field("failures", status.reload.failures)
    }
  }
}
