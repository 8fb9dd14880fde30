// How a connection gets its export: what it may ask for while it haggles, and what it is once it has one.

import BlockBackend
import NBDProtocol
import NBDServerCore
import Syscalls
import SystemPackage

extension Connection {
  /// Who it is for rules about who may have an export.
  var identity: PeerIdentity { PeerIdentity(peer) }

  /// What it may ask for, while it haggles: the exports as they were when it began, because GO has to tell what INFO told (spec,
  /// NBD_OPT_GO); but as they are now when one has gone since: another may have come under its name. As the lease holder.
  func exportView() -> ExportView {
    let (table, departures) = server.exports.withLock { ($0.table, $0.departures) }
    let offer = rest.withLock { rest in
      if rest.offer?.departures != departures { rest.offer = Offer(table: table, departures: departures) }
      return rest.offer?.table ?? table
    }
    return ExportView(offer, for: self)
  }

  /// What a client in its handshake may ask for.
  struct Offer {
    var table: ExportTable
    /// Of the register when it was made.
    var departures: Int
  }

  /// The handshake is over. The connection has taken its export, which is there as long as it has it.
  func establish(_ session: Session) -> Transmission {
    guard let served = server.served(session.export.id) else { preconditionFailure("an export that is used is served") }
    let transmission = Transmission(connection: self, session: session, served: served)
    rest.withLock { rest in
      rest.transmission = transmission
      rest.offer = nil
    }
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
