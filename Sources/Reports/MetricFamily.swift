// The metrics there are: the one table from which the text is made and the documentation is checked.

/// A metric with all its labels.
package enum MetricFamily: String, CaseIterable, Sendable {
  case buildInfo = "holdfast_build_info"
  case startTime = "holdfast_start_time_seconds"
  case exports = "holdfast_exports"
  case connections = "holdfast_connections"
  case connectionsTotal = "holdfast_connections_total"
  case handshakeFailures = "holdfast_handshake_failures_total"
  case requests = "holdfast_requests_total"
  case requestErrors = "holdfast_request_errors_total"
  case rejectedRequests = "holdfast_rejected_requests_total"
  case requestDuration = "holdfast_request_duration_seconds"
  case readBytes = "holdfast_read_bytes_total"
  case writtenBytes = "holdfast_written_bytes_total"
  case zeroedBytes = "holdfast_zeroed_bytes_total"
  case trimmedBytes = "holdfast_trimmed_bytes_total"
  case inflightRequests = "holdfast_inflight_requests"
  case slowOperations = "holdfast_slow_operations"
  case rangeLockWaits = "holdfast_range_lock_waits_total"
  case rangeLockWait = "holdfast_range_lock_wait_seconds"
  case rangeLockHeld = "holdfast_range_lock_held"
  case rangeLockWaiters = "holdfast_range_lock_waiters"
  case allocatedBytes = "holdfast_allocated_bytes"
  case sizeBytes = "holdfast_size_bytes"
  case exportPaused = "holdfast_export_paused"
  case flushDuration = "holdfast_flush_duration_seconds"
  case flushErrors = "holdfast_flush_errors_total"
  case flushErrorLatched = "holdfast_flush_error_latched"
  case memoryBytes = "holdfast_memory_bytes"
  case memoryLimit = "holdfast_memory_limit_bytes"
  case memoryWaiters = "holdfast_memory_waiting_connections"
  case workers = "holdfast_worker_threads"
  case workersAwake = "holdfast_worker_threads_awake"
  case reloadSuccessful = "holdfast_config_last_reload_successful"
  case reloadTimestamp = "holdfast_config_last_reload_timestamp_seconds"
  case processCPU = "process_cpu_seconds_total"
  case processResident = "process_resident_memory_bytes"
  case processVirtual = "process_virtual_memory_bytes"
  case processThreads = "process_threads"
  case processOpenDescriptors = "process_open_fds"
  case processDescriptorsMax = "process_max_fds"
  case processStart = "process_start_time_seconds"

  package enum Kind: String, Sendable { case counter, gauge, histogram }

  package var name: String { rawValue }

  package var kind: Kind {
    switch self {
    case .requestDuration, .rangeLockWait, .flushDuration: .histogram
    case .connectionsTotal, .handshakeFailures, .requests, .requestErrors, .rejectedRequests, .readBytes, .writtenBytes,
      .zeroedBytes, .trimmedBytes, .rangeLockWaits, .flushErrors, .processCPU:
      .counter
    case .buildInfo, .startTime, .exports, .connections, .inflightRequests, .slowOperations, .rangeLockHeld,
      .rangeLockWaiters, .allocatedBytes, .sizeBytes, .exportPaused, .flushErrorLatched, .memoryBytes, .memoryLimit,
      .memoryWaiters, .workers, .workersAwake, .reloadSuccessful, .reloadTimestamp, .processResident, .processVirtual,
      .processThreads, .processOpenDescriptors, .processDescriptorsMax, .processStart:
      .gauge
    }
  }

  package var labels: [String] {
    switch self {
    case .buildInfo: ["version"]
    case .connections, .readBytes, .writtenBytes, .inflightRequests, .allocatedBytes, .sizeBytes, .exportPaused,
      .flushErrorLatched:
      ["export"]
    case .connectionsTotal: ["export", "tls"]
    case .handshakeFailures: ["reason"]
    case .requests: ["export", "op"]
    case .requestErrors: ["export", "op", "error"]
    case .rejectedRequests: ["export", "reason"]
    case .requestDuration: ["op"]
    case .zeroedBytes: ["method"]
    case .startTime, .exports, .trimmedBytes, .slowOperations, .rangeLockWaits, .rangeLockWait, .rangeLockHeld,
      .rangeLockWaiters, .flushDuration, .flushErrors, .memoryBytes, .memoryLimit, .memoryWaiters, .workers,
      .workersAwake, .reloadSuccessful, .reloadTimestamp, .processCPU, .processResident, .processVirtual,
      .processThreads, .processOpenDescriptors, .processDescriptorsMax, .processStart:
      []
    }
  }

  package var help: String {
    switch self {
    case .buildInfo: "The version that runs; always 1."
    case .startTime: "When the server began, seconds since 1970."
    case .exports: "Exports that new clients find."
    case .connections: "Connections that have chosen this export and are open."
    case .connectionsTotal: "Connections that have chosen this export."
    case .handshakeFailures: "Connections that ended without an export, by why; not those that said goodbye."
    case .requests: "Requests answered, with success or an error."
    case .requestErrors: "Requests answered with an error, by the NBD error."
    case .rejectedRequests: "Requests that broke a rule and were not executed, by the rule."
    case .requestDuration: "From the receipt of a request to its reply, as seen by the server."
    case .readBytes: "Bytes of READs answered with data."
    case .writtenBytes: "Bytes of WRITEs that succeeded."
    case .zeroedBytes: "Bytes made zero by WRITE_ZEROES, by how."
    case .trimmedBytes: "Bytes that TRIM punched or discarded."
    case .inflightRequests: "Requests that have left their worker: they wait for a lock, a disk or a sync."
    case .slowOperations: "Requests in flight for longer than slow-operation, at most 64."
    case .rangeLockWaits: "Requests that had to wait for another one on their range and have got their lock."
    case .rangeLockWait: "How long requests waited for others on their range."
    case .rangeLockHeld: "Range locks held now."
    case .rangeLockWaiters: "Requests that wait for a range lock now."
    case .allocatedBytes: "Storage that the image takes."
    case .sizeBytes: "Size of the export."
    case .exportPaused: "1 while the export is paused."
    case .flushDuration: "How long fdatasync took; one answers many FLUSH and FUA requests."
    case .flushErrors: "Calls of fdatasync that failed."
    case .flushErrorLatched: "1 when a sync has failed: every FLUSH and FUA fails until an operator clears it."
    case .memoryBytes: "Memory that requests and replies hold."
    case .memoryLimit: "The most that they may hold."
    case .memoryWaiters: "Connections that wait for memory."
    case .workers: "Threads that serve connections."
    case .workersAwake: "Of these, those that do not wait for a client."
    case .reloadSuccessful: "1 when the configuration was read without a mistake last time."
    case .reloadTimestamp: "When the configuration was last read without a mistake, seconds since 1970."
    case .processCPU: "CPU time used by the process."
    case .processResident: "Resident memory of the process."
    case .processVirtual: "Virtual memory of the process."
    case .processThreads: "Threads of the process."
    case .processOpenDescriptors: "Open file descriptors of the process."
    case .processDescriptorsMax: "Most file descriptors that the process may open."
    case .processStart: "When the process began, seconds since 1970."
    }
  }
}
