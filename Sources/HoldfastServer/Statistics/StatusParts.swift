// What the status asks of the parts of a server.

import NBDServerCore

extension Server {
  /// What is served, without its counters.
  var servedExports: [(status: ExportStatus, image: Image)] {
    exports.entries.enumerated().map { index, entry in
      var status = ExportStatus(name: entry.name)
      status.description = entry.description
      status.sizeBytes = entry.geometry.sizeBytes
      status.isReadOnly = entry.isReadOnly
      status.isDefault = entry.aliases.contains("")
      return (status, images[index])
    }
  }

  var servedImages: [Image] { images }

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
