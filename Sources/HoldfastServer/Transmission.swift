// What the requests of one connection share after the handshake. Constant for the life of the connection (I9).

import BlockBackend
import Logging
import NBDProtocol
import NBDServerCore
import SystemPackage

/// One negotiated connection to one export.
final class Transmission: Sendable {
  let connection: Connection
  let session: Session
  let image: Image
  let encoder: ReplyEncoder
  private let logger: Logger

  init(connection: Connection, session: Session, image: Image, logger: Logger) {
    self.connection = connection
    self.session = session
    self.image = image
    encoder = ReplyEncoder(session: session)
    self.logger = logger
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
    // A refusal of FAST_ZERO is an answer, not a fault.
    let level: Logger.Level = wireError == .notSupported ? .debug : .warning
    logger.log(
      level: level,
      "\(request.command.specName) \(request.offset)+\(request.length) of export \"\(session.export.name)\": \(text)")
    return (text, wireError)
  }
}
