// What workers do.

/// One piece of work, for a worker that is free.
enum Work: Sendable {
  case serve(Connection)
  /// Waits for sockets in the loop's place.
  case attend(Server)
  /// Shows that a worker was free.
  case probe(@Sendable () -> Void)

  func run(_ worker: inout Worker) {
    switch self {
    case .serve(let connection): connection.serve(&worker)
    case .attend(let server): server.attend(&worker)
    case .probe(let job): job()
    }
  }
}

extension Server {
  /// No worker is free, so new work waits: all that may be awake are, or all that may exist wait for a disk. Any thread.
  package var allWorkersAreBusy: Bool {
    let counts = workers.counts
    return counts.awake >= Server.workersAwakeMax(cpus: cpus)
      || counts.threads >= Server.workersMax && counts.waiting > 0
  }

  /// Runs `job` on a worker as soon as one is free. Any thread.
  package func whenAWorkerIsFree(_ job: @escaping @Sendable () -> Void) { workers.submit(.probe(job)) }
}
