// What an operator may decide about an export and clients are not told: when writes are safe, and how much of the server its
// clients may have.

/// When a write is on stable storage.
package enum Durability: String, Sendable, CaseIterable {
  /// When the client asks: FLUSH and FUA.
  case fua
  /// Before its reply, as if every WRITE, TRIM and WRITE_ZEROES had FUA.
  case always
  /// When the kernel likes: FLUSH and FUA are answered without a sync, which the protocol forbids. For images that nobody needs
  /// after a crash.
  case never = "unsafe"
}

/// What the clients of one export may have together. Nil: no limit beside those of the server.
package struct ExportLimits: Sendable, Equatable {
  package var connections: Int?
  /// Requests that wait for a lock, a disk or a sync. Each connection may exceed it by one.
  package var requestsInFlight: Int?
  /// Memory. May be exceeded by one request, and by a small one of each connection; what was received and waits for its turn does not
  /// count.
  package var bytes: Int?

  package init(connections: Int? = nil, requestsInFlight: Int? = nil, bytes: Int? = nil) {
    self.connections = connections
    self.requestsInFlight = requestsInFlight
    self.bytes = bytes
  }
}
