// What a daemon said that it does, as values (the keys are those of `holdfast status --json`). They are not the daemon's own
// types: it may be of another version.

/// The commands that are counted.
enum CountedName: String, CaseIterable, Sendable {
  case read, write, trim
  case writeZeroes = "write_zeroes"
  case flush, cache
  case blockStatus = "block_status"
}

struct DaemonStatus: Sendable, Equatable {
  var version = ""
  /// Seconds since 1970.
  var nowSeconds = 0.0
  var uptimeSeconds = 0.0
  var isShuttingDown = false
  var exports: [Export] = []
  var connections: [Connection] = []
  /// In flight for longer than `slowOperationSeconds`.
  var slowOperations: [SlowOperation] = []
  var slowOperationSeconds = 0.0
  var memoryBytes = 0
  var memoryBytesMax = 0
  /// Connections that wait for memory.
  var memoryWaiters = 0
  var workersAwake = 0
  var workersAwakeMax = 0
  var locksHeld = 0
  var lockWaiters = 0
  var lockWaits = LatencyCounts()
  var syncErrors = 0
  var syncs = LatencyCounts()
  var trimmedBytes = 0
  var latencies: [CountedName: LatencyCounts] = [:]
  var lastReloadSucceeded = true

  struct Counts: Sendable, Equatable {
    var requests = 0
    var errors = 0
    var bytes = 0
  }

  struct Export: Sendable, Equatable {
    var name: String
    var path = ""
    var sizeBytes = 0
    /// Nil: not known.
    var allocatedBytes: Int?
    var isReadOnly = false
    var isPaused = false
    var isHidden = false
    var connections = 0
    var latchedError: String?
    var commands: [CountedName: Counts] = [:]
    var inFlight = 0
    var lockWaiters = 0
  }

  struct Connection: Sendable, Equatable {
    var id: Int
    var peer: String
    /// Nil while it negotiates.
    var export: String?
    var ageSeconds = 0.0
    var state = ""
    var commands: [CountedName: Counts] = [:]
    var inFlight = 0
    /// Replies that the client has not taken.
    var queuedBytes = 0

    /// Of all commands.
    var total: Counts {
      commands.values.reduce(into: Counts()) { sum, counts in
        sum.requests += counts.requests
        sum.errors += counts.errors
        sum.bytes += counts.bytes
      }
    }
  }

  struct SlowOperation: Sendable, Equatable {
    var connection: Int
    var export: String
    var command: String
    var offset: Int
    /// Bytes.
    var length: Int
    var ageSeconds: Double
    var waitsFor: String
  }
}

/// Durations in buckets that double: up to 1024 ns, up to 2048 ns, and so on; the last one holds the rest.
struct LatencyCounts: Sendable, Equatable {
  var buckets: [Int] = []

  private static let firstBoundNanoseconds = 1024.0

  var count: Int { buckets.reduce(0, +) }

  /// What came since `old`; all of it when that is of another server.
  func since(_ old: LatencyCounts?) -> LatencyCounts {
    guard let old, old.buckets.count == buckets.count, zip(buckets, old.buckets).allSatisfy({ $0 >= $1 }) else {
      return self
    }
    return LatencyCounts(buckets: zip(buckets, old.buckets).map { $0 - $1 })
  }

  /// The duration that a fraction of all stayed within, seconds, taking them as evenly spread in their bucket.
  func quantileSeconds(_ fraction: Double) -> Double? {
    guard count > 0 else { return nil }
    let wanted = max(1, Double(count) * fraction)
    var below = 0.0
    var lower = 0.0
    var upper = LatencyCounts.firstBoundNanoseconds
    for (index, bucket) in buckets.enumerated() {
      // Of the last one only the lower bound is known.
      if index == buckets.count - 1 { upper = lower }
      if bucket > 0, below + Double(bucket) >= wanted {
        return (lower + (upper - lower) * (wanted - below) / Double(bucket)) / 1e9
      }
      below += Double(bucket)
      lower = upper
      upper *= 2
    }
    return nil
  }
}
