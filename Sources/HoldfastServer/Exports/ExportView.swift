// The exports as one client sees them while it haggles.

import NBDProtocol
import NBDServerCore
import Syscalls

/// The table as it was when the handshake began, and the connection that may take one. After the handshake: nothing.
struct ExportView: ExportDirectory {
  private let table: ExportTable?
  private let connection: Connection?

  /// For a client that has its export.
  static let none = ExportView()

  private init() { (table, connection) = (nil, nil) }

  init(_ table: ExportTable, for connection: Connection) {
    self.table = table
    self.connection = connection
  }

  var listIsAllowed: Bool { true }

  var list: [(name: String, description: String?)] {
    guard let table, let connection else { return [] }
    return table.list(for: connection.identity)
  }

  func find(_ name: String) -> ExportDescription? {
    let found = table?.find(name)
    if found == nil { connection?.noteRefusal(.unknownExport) }
    return found
  }

  func refusal(of export: ExportDescription) -> ExportRefusal? {
    guard let table, let connection, table.access(of: export.id).admits(connection.identity) else {
      connection?.noteRefusal(.notAllowed)
      return ServedExport.notAllowed
    }
    return nil
  }

  func take(_ export: ExportDescription) -> ExportRefusal? {
    guard let connection, let served = connection.server.served(export.id) else { return .unknown }
    let refusal = served.admit(connection, connection.identity)
    switch refusal {
    case nil: break
    case .unknown: connection.noteRefusal(.unknownExport)
    case .policy: connection.noteRefusal(refusal == ServedExport.notAllowed ? .notAllowed : .exportLimit)
    }
    return refusal
  }
}

extension PeerIdentity {
  init(_ peer: PeerAddress) {
    switch peer {
    case .network(.ipv4(let bytes, _)), .network(.ipv6(let bytes, _, _)): self = .network(bytes)
    // Only sockets of our own have no credentials, and these are Unix sockets.
    case .network(.unix): self = .unix(user: 65534, group: 65534)
    case .unix(_, let user, let group): self = .unix(user: user, group: group)
    }
  }
}
