// What the requests of one connection share after the handshake. Constant for the life of the connection (I9).

import BlockBackend
import Logging
import NBDProtocol
import NBDServerCore
import Synchronization
import SystemPackage

/// One negotiated connection to one export.
final class Transmission: Sendable {
  let connection: Connection
  let session: Session
  let served: ServedExport
  let image: Image
  let encoder: ReplyEncoder
  /// As they were when the client came: `ServedExport.Terms`.
  let ignoresTrim: Bool
  let durability: Durability
  let statistics = ConnectionStatistics()
  let exportStatistics: ExportStatistics
  private let faultsLogged = Atomic<Int>(0)

  init(connection: Connection, session: Session, served: ServedExport) {
    self.connection = connection
    self.session = session
    self.served = served
    image = served.image
    encoder = ReplyEncoder(session: session)
    let terms = served.terms
    (ignoresTrim, durability) = (terms.ignoresTrim, terms.durability)
    let server = connection.server
    exportStatistics = server.statistics.attach(statistics, to: session.export.name) {
      server.exportSnapshot().map(\.export.name)
    }
  }

  /// Nothing is in flight any more, and the connection is closed.
  func end() { exportStatistics.detach(statistics) }

  /// Where the client says that `request` begins, bytes of the export.
  func clientOffset(of request: Request) -> UInt64 { request.offset &- session.export.imageOffset }

  /// A request leaves the worker.
  /// - Returns: its number on the connection.
  func begin(_ request: Request) -> UInt64 {
    connection.begin(
      of: served, Replies.Operation(request, beganNanoseconds: statistics.receivedNanoseconds))
  }

  /// The request as the operator wants it: with `always`, every mutation is synced before its reply, with `never` none.
  @inline(__always)
  func byTerms(_ request: Request) -> Request {
    switch durability {
    case .fua: return request
    case .always:
      guard request.command.rule.changesData else { return request }
      var synced = request
      synced.flags.insert(.fua)
      return synced
    case .never:
      var loose = request
      loose.flags.remove(.fua)
      return loose
    }
  }

  func readPlan(_ request: Request) -> ReadPlan {
    ReadPlan(request, session: session, capabilities: image.backend.capabilities)
  }

  /// The text and the error for the client; the real errno goes to the log first.
  func describe(
    _ error: BackendError, of request: Request, doing activity: Job.Activity
  ) -> (text: String, error: NBDError) {
    let wireError: NBDError
    let text: String
    switch activity {
    case .execute:
      // NBD_ENOTSUP is the answer to FAST_ZERO and to nothing else (Error values).
      let mapped = NBDError(error.errno)
      wireError = mapped == .notSupported && !request.flags.contains(.fastZero) ? .invalid : mapped
      text = "\(request.command.specName) failed: \(error.errno)"
    case .sync:
      wireError = .io
      text = "the image could not be synced: \(error.errno); earlier writes may be lost"
    }
    log(
      request, error.errno,
      "\(request.command.specName) \(clientOffset(of: request))+\(request.length) of export \"\(session.export.name)\": \(text)",
      // A refusal of FAST_ZERO is an answer, not a fault.
      isFault: wireError != .notSupported)
    return (text, wireError)
  }

  /// A client whose every request fails must not fill the log.
  private func log(_ request: Request, _ errno: Errno, _ line: String, isFault: Bool) {
    func fields() -> Logger.Metadata {
      var fields = connection.metadata(request, self)
      fields["errno"] = .stringConvertible(errno.rawValue)
      return fields
    }
    guard isFault else { return connection.log(.debug, line, fields()) }
    let count = faultsLogged.add(1, ordering: .relaxed).newValue
    if count <= Transmission.faultsLoggedMax { connection.log(.warning, line, fields()) }
    if count == Transmission.faultsLoggedMax {
      connection.log(.warning, "further failed requests of this connection are not logged")
    }
  }

  private static let faultsLoggedMax = 100
}
