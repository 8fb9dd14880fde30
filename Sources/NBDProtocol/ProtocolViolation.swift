// The peer is at fault, so badly that nothing it sends afterwards can be trusted.

/// The peer broke a rule that leaves no clean reply: the connection is closed at once. Never used for a request or an
/// option that can be answered with an error.
package struct ProtocolViolation: Error, Equatable, Sendable {
  /// What it did, one clause without peer-chosen text: safe to log.
  package var what: String
  /// Offset in the stream from the peer where the offending message begins, bytes since the connection was made. For
  /// requests it is counted from the request header; the owner of the stream adds what came before.
  package var atByte: UInt64

  package init(what: String, atByte: UInt64) {
    self.what = what
    self.atByte = atByte
  }
}
