// A request that was looked at: either it may be executed, or it is known how to refuse it.

/// May be executed: allowed on this connection, inside the export.
package struct Request: Sendable, Equatable {
  package var command: Command
  package var flags: CommandFlags
  package var cookie: UInt64
  /// In the image, bytes: that of the client and where its export begins.
  package var offset: UInt64
  package var length: UInt32

  package init(command: Command, flags: CommandFlags, cookie: UInt64, offset: UInt64, length: UInt32) {
    self.command = command
    self.flags = flags
    self.cookie = cookie
    self.offset = offset
    self.length = length
  }

  /// Bytes of the image, half-open; empty for FLUSH and DISC. Cannot overflow: the request was validated.
  package var range: Range<UInt64> { offset..<offset + UInt64(length) }
}

/// Why a request is refused; its text goes to the client.
package enum RefusalReason: UInt8, CaseIterable, Sendable {
  case unknownCommand, unknownFlag, flagNotForCommand, flagNotAdvertised, commandNotAdvertised, noContext
  case readOnly, tooLong, beyondEnd, unaligned, reservedFields, emptyStatus, shuttingDown

  package var text: String {
    switch self {
    case .unknownCommand: "this command is not known"
    case .unknownFlag: "a command flag is not known"
    case .flagNotForCommand: "a command flag is not valid for this command"
    case .flagNotAdvertised: "a command flag was not advertised for this export"
    case .commandNotAdvertised: "this command was not advertised for this export"
    case .noContext: "no metadata context was selected for this export"
    case .readOnly: "the export is read-only"
    case .tooLong: "the length exceeds the maximum payload of this export"
    case .beyondEnd: "the request reaches beyond the end of the export"
    case .unaligned: "offset and length have to be multiples of the minimum block size"
    case .reservedFields: "offset and length have to be zero for this command"
    case .emptyStatus: "the status of no bytes was asked for"
    case .shuttingDown: "the server is shutting down"
    }
  }
}

/// How to refuse a request: drain its payload, then reply. The connection lives.
package struct Refusal: Sendable, Equatable {
  package var cookie: UInt64
  /// Nil: not known.
  package var command: Command?
  package var error: NBDError
  package var reason: RefusalReason
  /// First byte of the image that could not be done, inside the request; for NBD_REPLY_TYPE_ERROR_OFFSET.
  package var offset: UInt64?
  /// Bytes that follow the header and are thrown away.
  package var payloadBytes: UInt32

  package var text: String { reason.text }
}

package enum Verdict: Sendable, Equatable {
  /// A payload of `length` bytes follows if, and only if, it is a WRITE.
  case accepted(Request)
  case refused(Refusal)
}
