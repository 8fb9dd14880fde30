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
  /// No worker is free: all that may be awake are, so new work waits. Any thread.
  package var allWorkersAreBusy: Bool { workers.awakeCount >= Server.workersAwakeMax(cpus: cpus) }

  /// Runs `job` on a worker as soon as one is free. Any thread.
  package func whenAWorkerIsFree(_ job: @escaping @Sendable () -> Void) { workers.submit(.probe(job)) }
}
