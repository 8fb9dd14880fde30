// What workers do.

/// One piece of work, for a worker that is free.
enum Work: Sendable {
  case serve(Connection)
  /// Waits for sockets in the loop's place.
  case attend(Server)

  func run(_ worker: inout Worker) {
    switch self {
    case .serve(let connection): connection.serve(&worker)
    case .attend(let server): server.attend(&worker)
    }
  }
}
