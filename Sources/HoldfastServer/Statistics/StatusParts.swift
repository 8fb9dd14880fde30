// What the status asks of the parts of a server.

import NBDServerCore

extension Server {
  /// What is served, without its counters. Two may have one name, while clients still have what was there before: counters belong to
  /// the name, so only the one that new clients find is told of.
  var servedExports: [(status: ExportStatus, image: Image)] {
    let all = exportSnapshot()
    var last: [String: Int] = [:]
    for (index, snapshot) in all.enumerated() { last[snapshot.export.name] = index }
    return all.enumerated().compactMap { index, snapshot in
      guard last[snapshot.export.name] == index else { return nil }
      let export = snapshot.export
      var status = ExportStatus(name: export.name)
      status.path = export.image.backend.imagePath ?? ""
      status.description = export.description
      status.sizeBytes = snapshot.sizeBytes
      status.isReadOnly = snapshot.isReadOnly
      status.isPaused = snapshot.isPaused
      status.isHidden = snapshot.state != .served
      status.isDefault = export.aliases.contains("")
      status.connectionsMax = export.limits.connections
      status.requestsInFlightMax = export.limits.requestsInFlight
      status.bytesMax = export.limits.bytes
      return (status, export.image)
    }
  }

  var servedImages: [Image] { exports.withLock { $0.images.map(\.image) } }

  func heldBytes(of connections: [ConnectionID]) -> [Int] {
    budget.withLock { budget in connections.map { budget.held(by: $0) } }
  }

  var memoryStatus: MemoryStatus {
    var status = MemoryStatus()
    (status.chargedBytes, status.waitingConnections) = budget.withLock { ($0.total, $0.waitingCount) }
    status.limitBytes = limits.totalBytesMax
    return status
  }
}
