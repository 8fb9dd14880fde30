// The one table of what each command may, needs and does.

/// How a command holds the range it speaks of (I5).
package enum LockMode: Sendable, Equatable {
  case none, shared, exclusive
}

/// What is true of a command on every connection.
package struct CommandRule: Sendable, Equatable {
  /// `length` bytes follow the header.
  package var hasPayload = false
  /// Offset and length speak of bytes of the export; without, both are reserved.
  package var hasRange = true
  /// `length` bytes travel in one direction, so the maximum payload bounds it.
  package var carriesData = false
  /// Alters the export: not on a read-only one.
  package var changesData = false
  /// Valid flags beside FUA, which is valid everywhere.
  package var flags: CommandFlags = []
  /// The client must have been told this flag; empty: always there.
  package var neededFlag: TransmissionFlags = []
  package var lock = LockMode.shared
  /// The answer when the range ends beyond the export.
  package var errorOutOfRange = NBDError.invalid
  /// NBD_REPLY_TYPE_ERROR_OFFSET is a valid reply.
  package var repliesErrorOffset = true
}

extension Command {
  /// Spec: "Request types", "Command flags", "Error values".
  package var rule: CommandRule {
    switch self {
    case .read: CommandRule(carriesData: true, flags: .dontFragment)
    case .write:
      CommandRule(hasPayload: true, carriesData: true, changesData: true, lock: .exclusive, errorOutOfRange: .noSpace)
    case .disconnect: CommandRule(hasRange: false, lock: .none, repliesErrorOffset: false)
    case .flush: CommandRule(hasRange: false, neededFlag: .sendFlush, lock: .none, repliesErrorOffset: false)
    case .trim: CommandRule(changesData: true, neededFlag: .sendTrim, lock: .exclusive)
    case .cache: CommandRule(neededFlag: .sendCache)
    case .writeZeroes:
      CommandRule(
        changesData: true, flags: [.noHole, .fastZero], neededFlag: .sendWriteZeroes, lock: .exclusive,
        errorOutOfRange: .noSpace)
    case .blockStatus: CommandRule(flags: .reqOne)
    }
  }
}

extension CommandFlags {
  /// The transmission flags without which none of these command flags may be used.
  package var neededFlags: TransmissionFlags {
    var needed: TransmissionFlags = []
    if contains(.fua) { needed.insert(.sendFUA) }
    if contains(.dontFragment) { needed.insert(.sendDF) }
    if contains(.fastZero) { needed.insert(.sendFastZero) }
    return needed
  }
}
