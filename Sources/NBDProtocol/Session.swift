// What was agreed in the handshake. Constant for the life of the connection (I9).

/// The rules that one client's transmission phase goes by. An object, because every request looks at it and it is never changed.
package final class Session: Sendable {
  /// As it was when the client was told.
  package let export: ExportDescription
  /// As the client was told.
  package let flags: TransmissionFlags
  package let replies: ReplyMode
  /// The client asked for block sizes in its GO and so has to keep to them ("Size constraints").
  package let clientKnowsBlockSizes: Bool
  /// `base:allocation` was selected, for the export name that was used in the end. Nil: no BLOCK_STATUS.
  package let allocationContextID: UInt32?

  #if GUARD_SWITCHES
  /// Guard of I9: what was not advertised is refused. Tests take it out.
  package let refusesUnadvertised: Bool

  /// The same with or without that guard.
  package func with(refusesUnadvertised: Bool) -> Session {
    Session(
      export: export, flags: flags, replies: replies, clientKnowsBlockSizes: clientKnowsBlockSizes,
      allocationContextID: allocationContextID, refusesUnadvertised: refusesUnadvertised)
  }
  #else
  package var refusesUnadvertised: Bool { true }
  #endif

  package init(
    export: ExportDescription, flags: TransmissionFlags, replies: ReplyMode, clientKnowsBlockSizes: Bool,
    allocationContextID: UInt32?, refusesUnadvertised: Bool = true
  ) {
    precondition(allocationContextID == nil || replies == .structured, "a context needs structured replies")
    self.export = export
    self.flags = flags
    self.replies = replies
    self.clientKnowsBlockSizes = clientKnowsBlockSizes
    self.allocationContextID = allocationContextID
    #if GUARD_SWITCHES
    self.refusesUnadvertised = refusesUnadvertised
    #endif
  }
}

extension ExportDescription {
  /// What a client is told: HAS_FLAGS always; SEND_DF with structured replies only; never what is not supported here
  /// (spec: "Transmission flags").
  func flags(for replies: ReplyMode) -> TransmissionFlags {
    var told = flags.union(.hasFlags).subtracting([.sendDF, .sendResize])
    switch replies {
    case .simple: break
    case .structured: told.insert(.sendDF)
    }
    if !told.contains(.sendWriteZeroes) { told.remove(.sendFastZero) }
    return told
  }
}
