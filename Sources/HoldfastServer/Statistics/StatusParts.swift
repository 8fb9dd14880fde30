// What the status asks of the parts of a server.

import NBDServerCore

extension Server {
  /// What is served, without its counters.
  var servedExports: [(status: ExportStatus, image: Image)] {
    let all = exportSnapshot()
    // One that is leaving has its counters together with a new one of its name, which came later.
    let youngest = Dictionary(all.map { ($0.export.name, $0.id) }, uniquingKeysWith: { $1 })
    return all.filter { youngest[$0.export.name] == $0.id }.map { snapshot in
      var status = ExportStatus(name: snapshot.export.name)
      status.description = snapshot.export.description
      status.sizeBytes = snapshot.sizeBytes
      status.isReadOnly = snapshot.isReadOnly
      status.isDefault = snapshot.export.aliases.contains("")
      status.isPaused = snapshot.isPaused
      status.isHidden = snapshot.state != .served
      return (status, snapshot.export.image)
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
