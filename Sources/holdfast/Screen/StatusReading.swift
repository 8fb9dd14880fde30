// The status that a daemon sent, back from JSON. What is missing, or of another kind, counts as nothing: a daemon of another
// version is still worth looking at.

extension DaemonStatus {
  init(_ json: JSON) {
    version = json["version"]?.string ?? ""
    nowSeconds = json.figure("now_seconds")
    uptimeSeconds = json.figure("uptime_seconds")
    isShuttingDown = json.flag("shutting_down")
    exports = json.list("exports").map { Export($0) }
    connections = json.list("connections").map { Connection($0) }
    slowOperations = json.list("slow_operations").map { SlowOperation($0) }
    slowOperationSeconds = json.figure("slow_operation_seconds")
    memoryBytes = json.count("memory", "charged_bytes")
    memoryBytesMax = json.count("memory", "limit_bytes")
    memoryWaiters = json.count("memory", "waiting_connections")
    workersAwake = json.count("workers", "awake")
    workersAwakeMax = json.count("workers", "awake_max")
    locksHeld = json.count("locks", "held")
    lockWaiters = json.count("locks", "waiting")
    lockWaits = LatencyCounts(json["locks"]?["waits"])
    syncErrors = json.count("syncs", "errors")
    syncs = LatencyCounts(json["syncs"]?["durations"])
    trimmedBytes = json.count("effects", "trimmed_bytes")
    for name in CountedName.allCases {
      latencies[name] = LatencyCounts(json["latency"]?["commands"]?[name.rawValue])
    }
    lastReloadSucceeded = json["reload"]?["last_succeeded"]?.boolean ?? true
  }
}

extension DaemonStatus.Export {
  fileprivate init(_ json: JSON) {
    name = json["name"]?.string ?? ""
    path = json["path"]?.string ?? ""
    sizeBytes = json.count("size_bytes")
    allocatedBytes = json["allocated_bytes"]?.integer == nil ? nil : json.count("allocated_bytes")
    isReadOnly = json.flag("read_only")
    isPaused = json.flag("paused")
    isHidden = json.flag("hidden")
    connections = json.count("connections")
    latchedError = json["latched_error"]?.string
    commands = json.counts("commands")
    inFlight = json.count("in_flight")
    lockWaiters = json.count("lock_waiters")
  }
}

extension DaemonStatus.Connection {
  fileprivate init(_ json: JSON) {
    id = json.count("id")
    peer = json["peer"]?.string ?? ""
    export = json["export"]?.string
    ageSeconds = json.figure("age_seconds")
    state = json["state"]?.string ?? ""
    commands = json.counts("commands")
    inFlight = json.count("in_flight")
    queuedBytes = json.count("queued_bytes")
  }
}

extension DaemonStatus.SlowOperation {
  fileprivate init(_ json: JSON) {
    connection = json.count("connection")
    export = json["export"]?.string ?? ""
    command = json["command"]?.string ?? ""
    offset = json.count("offset")
    length = json.count("length")
    ageSeconds = json.figure("age_seconds")
    waitsFor = json["waits_for"]?.string ?? ""
  }
}

extension LatencyCounts {
  fileprivate init(_ json: JSON?) {
    // So many that their sum cannot overflow.
    let all = (json?["buckets"]?.elements ?? []).prefix(64)
    buckets = all.map { min(max(0, $0.integer ?? 0), 1 << 56) }
  }
}

extension JSON {
  /// A number that is not negative. Sums of several are made; they must not overflow.
  fileprivate func count(_ path: String...) -> Int {
    let found = path.reduce(Optional(self)) { $0?[$1] }
    return min(max(0, found?.integer ?? 0), 1 << 59)
  }

  fileprivate func counts(_ name: String) -> [CountedName: DaemonStatus.Counts] {
    var result: [CountedName: DaemonStatus.Counts] = [:]
    for command in CountedName.allCases {
      guard let json = self[name]?[command.rawValue] else { continue }
      result[command] = .init(
        requests: json.count("requests"), errors: json.count("errors"), bytes: json.count("bytes"))
    }
    return result
  }

  fileprivate func figure(_ name: String) -> Double { max(0, self[name]?.number ?? 0) }
  fileprivate func flag(_ name: String) -> Bool { self[name]?.boolean ?? false }
  fileprivate func list(_ name: String) -> [JSON] { self[name]?.elements ?? [] }
}
