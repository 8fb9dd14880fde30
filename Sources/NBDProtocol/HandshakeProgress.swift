// What a handshake tells its driver.

/// Why a handshake ends without a session.
package enum CloseReason: Sendable, Equatable {
  case aborted, unknownExport, shuttingDown
  case tooManyOptions(max: Int)
  /// By policy; with the text that the client would be told.
  case refused(String)

  /// For the log; without bytes that the peer chose.
  package var text: String {
    switch self {
    case .aborted: "the client aborted the handshake"
    case .unknownExport: "the export that the client wants does not exist"
    case .shuttingDown: "the server is shutting down"
    case .refused(let text): "the client does not get its export: \(text)"
    case .tooManyOptions(let max): "the client sent more than \(max) options"
    }
  }
}

/// What `receive` did, and what it waits for.
package struct HandshakeProgress: Sendable {
  /// Bytes to remove from the front.
  package var consumed: Int
  package var outcome: Outcome

  package enum Outcome: Sendable {
    /// Bytes wanted at the front after removing the consumed ones; never more than `optionBytesMax` + 16.
    case needsMore(atLeast: Int)
    /// Replies have piled up: send them, then call again with what is left, whether or not more has come.
    case sendFirst
    /// The handshake is over: send the output; all further bytes are requests.
    case transmission(Session)
    /// Send the output, then close.
    case close(CloseReason)
  }
}
