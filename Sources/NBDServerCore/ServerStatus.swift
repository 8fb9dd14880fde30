// What a server does at one moment, as a value: status, metrics and the dashboard are made from it and from nothing else.

import NBDProtocol
import SystemPackage

/// Its parts were read one after the other and may differ by what happened meanwhile. Each counter is exact by itself and never
/// falls while the server lives.
package struct ServerStatus: Sendable, Equatable {
  /// Of the program; empty until the executable fills it in.
  package var version = ""
  /// Seconds since 1970.
  package var startedSeconds = 0.0
  /// When this was read, seconds since 1970.
  package var nowSeconds = 0.0
  /// By a clock that never jumps, seconds.
  package var uptimeSeconds = 0.0
  package var isShuttingDown = false
  /// In the order of the table of exports.
  package var exports: [ExportStatus] = []
  /// By their ids.
  package var connections: [ConnectionStatus] = []
  /// In flight for longer than `slowOperationSeconds`, the oldest first; at most `slowOperationsMax`.
  package var slowOperations: [SlowOperation] = []
  package var slowOperationSeconds = 0.0
  package var memory = MemoryStatus()
  package var workers = WorkerStatus()
  /// Of all images together.
  package var locks = LockStatus()
  package var syncs = SyncStatus()
  package var effects = EffectStatus()
  package var handshakeFailures: [HandshakeFailure: UInt64] = [:]
  /// Since the server began.
  package var latencies = PerCommand(repeating: LatencyHistogram())
  package var reload = ReloadStatus()

  package static let slowOperationsMax = 64

  package init() {}
}

package struct ExportStatus: Sendable, Equatable {
  package var name: String
  /// Of its image; empty when it has none.
  package var path = ""
  package var description: String?
  package var sizeBytes: UInt64 = 0
  /// Storage that the image takes; nil when nobody knows, or only a file system that might hang.
  package var allocatedBytes: UInt64?
  package var isReadOnly = false
  /// Requests wait until it is resumed.
  package var isPaused = false
  /// On its way out: no new client finds it.
  package var isHidden = false
  /// Answers to the empty name.
  package var isDefault = false
  /// Open now.
  package var connections = 0
  package var connectionsTotal: UInt64 = 0
  /// A sync failed: every FLUSH and FUA fails (I7).
  package var latchedErrno: Errno?
  package var commands = PerCommand<CommandCounts>()
  package var errors: [RequestErrorKey: UInt64] = [:]
  /// Requests that were refused before they became operations, by why. Those of a known command are among the errors, too.
  package var refusals: [RefusalReason: UInt64] = [:]
  /// Requests that have left their workers.
  package var inFlight = 0
  /// Of its image: exports that share one show the same.
  package var locksHeld = 0
  package var lockWaiters = 0
  package var connectionsMax: Int?
  package var requestsInFlightMax: Int?
  /// Memory that its requests may hold.
  package var bytesMax: Int?

  package init(name: String) { self.name = name }
}

/// What was answered to which command.
package struct RequestErrorKey: Hashable, Sendable {
  package var command: CountedCommand
  package var error: NBDError

  package init(command: CountedCommand, error: NBDError) {
    self.command = command
    self.error = error
  }
}

package struct ConnectionStatus: Sendable, Equatable {
  package enum State: String, Sendable {
    case negotiating, idle, serving, paused, finishing, dead
  }

  package var id: UInt64
  package var peer: String
  /// Nil while it negotiates.
  package var export: String?
  package var ageSeconds = 0.0
  /// Since bytes came or went, or something ended.
  package var idleSeconds = 0.0
  package var state = State.negotiating
  package var commands = PerCommand<CommandCounts>()
  /// Requests that have left their worker.
  package var inFlight = 0
  /// Replies that the client has not taken, bytes.
  package var queuedBytes = 0
  /// Memory charged to it, bytes.
  package var heldBytes = 0

  package init(id: UInt64, peer: String) {
    self.id = id
    self.peer = peer
  }
}

/// A request that has been in flight for long.
package struct SlowOperation: Sendable, Equatable {
  /// What it waits for, as far as that is known.
  package enum State: String, Sendable { case lock, disk, sync }

  package var connection: UInt64
  package var export: String
  package var command: CountedCommand
  package var offset: UInt64
  /// Bytes.
  package var length: UInt64
  package var ageSeconds: Double
  package var state: State

  package init(
    connection: UInt64, export: String, command: CountedCommand, offset: UInt64, length: UInt64, ageSeconds: Double,
    state: State
  ) {
    self.connection = connection
    self.export = export
    self.command = command
    self.offset = offset
    self.length = length
    self.ageSeconds = ageSeconds
    self.state = state
  }
}

/// Memory for requests and replies, bytes.
package struct MemoryStatus: Sendable, Equatable {
  package var chargedBytes = 0
  package var limitBytes = 0
  package var waitingConnections = 0
  package init() {}
}

package struct WorkerStatus: Sendable, Equatable {
  package var threads = 0
  package var awake = 0
  package var awakeMax = 0
  package var itemsWaiting = 0
  package init() {}
}

package struct LockStatus: Sendable, Equatable {
  package var held = 0
  package var waiting = 0
  /// How long those waited that had to.
  package var waits = LatencyHistogram()
  package init() {}
}

package struct SyncStatus: Sendable, Equatable {
  package var durations = LatencyHistogram()
  package var errors: UInt64 = 0
  package init() {}
}

/// What TRIM and WRITE_ZEROES became at the disk, bytes.
package struct EffectStatus: Sendable, Equatable {
  /// Storage given back by TRIM.
  package var trimmedBytes: UInt64 = 0
  package var zeroedByPunchBytes: UInt64 = 0
  package var zeroedByZeroRangeBytes: UInt64 = 0
  package var zeroedByWriteBytes: UInt64 = 0
  package init() {}
}

package struct ReloadStatus: Sendable, Equatable {
  /// Reading the configuration at the start counts as the first.
  package var lastSucceeded = true
  /// Seconds since 1970.
  package var lastSeconds = 0.0
  package var count: UInt64 = 0
  package var failures: UInt64 = 0
  package init() {}
}

/// Why a client got no further than the handshake.
package enum HandshakeFailure: String, CaseIterable, Sendable {
  /// It was not done in time.
  case timeout
  /// It broke the protocol, or sent too much.
  case protocolViolation = "protocol"
  /// It left before it had chosen an export. Who says goodbye (NBD_OPT_ABORT), after a list for example, has not failed.
  case disconnected
  case unknownExport = "unknown_export"
  /// The address or user is not one of those that the export allows.
  case notAllowed = "not_allowed"
  /// As many connections as the server, or the export, may have.
  case connectionLimit = "connection_limit"
  case exportLimit = "export_limit"
  case shutdown
}

extension HandshakeFailure {
  /// Nil: the client wished it so.
  package init?(closing reason: CloseReason) {
    switch reason {
    case .aborted: return nil
    case .unknownExport: self = .unknownExport
    case .refused: self = .notAllowed
    case .shuttingDown: self = .shutdown
    case .tooManyOptions: self = .protocolViolation
    }
  }
}
