// What operators ask a server for by number.

import NBDServerCore

extension Server {
  /// Cuts a connection, as if the network had broken (I6). Any thread.
  /// - Returns: false when there is none of that number.
  package func killConnection(_ id: ConnectionID) -> Bool {
    guard let connection = roster.withLock({ $0.connections[id] }) else { return false }
    connection.die("an operator has cut it")
    return true
  }
}
