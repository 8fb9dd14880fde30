// Every bound of the handshake, with its reason (I10). The deadline is the driver's: nothing here reads a clock.

/// What a client may make the handshake do.
package struct HandshakeLimits: Sendable, Equatable {
  /// Options per connection; then it is closed. A client that asks INFO for each of some hundred exports is honest.
  package var optionsMax: Int
  /// Data of one option that is looked at, bytes; the caller's buffer needs 16 more. Larger ones are skipped and
  /// answered with NBD_REP_ERR_TOO_BIG. Fifteen strings of the largest size fit.
  package var optionBytesMax: Int
  /// Data of one option that is skipped, bytes; above, the connection is closed. The spec calls no payload up to
  /// 32 MiB a denial of service ("Size constraints").
  package var optionBytesFatal: Int
  /// Queries in one meta context option; above, NBD_REP_ERR_TOO_BIG.
  package var queriesMax: Int
  /// Replies are handed out once they are this long, bytes, so that a row of LISTs in one packet cannot fill memory.
  package var outputBytesBeforeSend: Int

  package init(
    optionsMax: Int = 1024, optionBytesMax: Int = 64 << 10, optionBytesFatal: Int = 32 << 20, queriesMax: Int = 256,
    outputBytesBeforeSend: Int = 64 << 10
  ) {
    precondition(optionBytesMax >= 16 << 10, "a name and a query of 4096 bytes each have to fit")
    precondition(optionBytesFatal >= optionBytesMax, "what is looked at is not fatal")
    self.optionsMax = optionsMax
    self.optionBytesMax = optionBytesMax
    self.optionBytesFatal = optionBytesFatal
    self.queriesMax = queriesMax
    self.outputBytesBeforeSend = outputBytesBeforeSend
  }
}
