// How a connection gets its export: what it may ask for while it haggles, and what it is once it has one.

import BlockBackend
import NBDProtocol
import NBDServerCore
import Syscalls
import SystemPackage

extension Connection {
  /// Who it is for rules about who may have an export.
  var identity: PeerIdentity { PeerIdentity(peer) }

  /// What it may ask for, while it haggles: what is served now, so that an export that is replaced meanwhile is found. As the lease
  /// holder.
  func exportView() -> ExportView { ExportView(server.exports.withLock { $0.table }, for: self) }

  /// The handshake is over. The connection has taken its export, which is there as long as it has it.
  func establish(_ session: Session) -> Transmission {
    guard let served = server.served(session.export.id) else { preconditionFailure("an export that is used is served") }
    let transmission = Transmission(connection: self, session: session, served: served)
    rest.withLock { $0.transmission = transmission }
    prepareToSendFiles(of: transmission.image)
    server.attach(self, to: served)
    handshakeIsOver.store(true, ordering: .relaxed)
    log(.info, "connected to export \"\(session.export.name)\"", ["export": "\(session.export.name)"])
    return transmission
  }

  /// `sendfile` waits for the client on a blocking socket. As the lease holder: nobody else waits for bytes.
  private func prepareToSendFiles(of image: Image) {
    guard image.backend.lendFile() != nil, let address = try? Sockets.localAddress(descriptor), address.isUnix else {
      return
    }
    do throws(Errno) {
      try Sockets.setNonblocking(descriptor, true)
      filesMaySend.store(true, ordering: .relaxed)
    } catch {
      log(.debug, "replies are copied: \(error)")
    }
  }
}
