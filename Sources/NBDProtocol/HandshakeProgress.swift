// What a handshake tells its driver.

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
    /// Send the output, then close. The text is for the log, without peer-chosen bytes.
    case close(String)
  }
}
