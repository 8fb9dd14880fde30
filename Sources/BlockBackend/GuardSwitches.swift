// Takes the guard of an invariant out, so that a test can show that it would notice. Release builds contain no switch.

/// The guards that keep the invariants. Each has one test that fails without it (ARCHITECTURE.md, "Guards").
package enum Guard: UInt32, Sendable, CaseIterable {
  /// I1: layout probes use a descriptor of their own, and data moves by explicit offset.
  case ownProbeDescriptor
  /// I2: after a short completion exactly the rest is submitted.
  case resumeAfterShortWrite
  /// I3: layout is looked up and used under one shared lock.
  case layoutUnderLock
  /// I4: the bytes of a READ are a private copy made under the lock.
  case privateCopyOfReads
  /// I5: WRITE, TRIM and WRITE_ZEROES hold an exclusive lock on the effective range.
  case rangeLock
  /// I6: the operations of a dead connection keep their locks until they really end.
  case deadKeepLocks
  /// I7: no reply to FLUSH or FUA before the sync returned.
  case replyAfterSync
  /// I7: a failed sync makes all later ones fail.
  case syncErrorLatch
  /// I8: TRIM is rounded inward.
  case trimInward
  /// I9: what was not advertised is refused.
  case refuseUnadvertised
  /// I10: bytes are charged to a budget before they are kept.
  case byteBudget
}

/// Which guards have been taken out; a value that is handed down at construction.
package struct GuardSwitches: Sendable, Equatable {
  package static let allStand = GuardSwitches()

  #if GUARD_SWITCHES
  private var removed: UInt32 = 0

  package init(without guards: Guard...) {
    self.init(without: guards)
  }

  package init(without guards: [Guard]) {
    for each in guards { removed |= 1 << each.rawValue }
  }

  package func stands(_ guard: Guard) -> Bool { removed & (1 << `guard`.rawValue) == 0 }
  #else
  private init() {}

  package func stands(_ guard: Guard) -> Bool { true }
  #endif
}
