// What all images of a server have in common to be counted: waits for locks, syncs, and what TRIM and WRITE_ZEROES became.

import BlockBackend
import Locking
import NBDServerCore
import Synchronization

/// One for the images of a process; they get it with their lanes.
package final class ImageStatistics: Sendable {
  let lockWaits = SharedHistogram()
  let syncs = SharedHistogram()
  let syncErrors = Atomic<Int>(0)

  private struct Effects {
    var living: [ObjectIdentifier: EffectCounters] = [:]
    var ended = EffectCounters.Counts()
  }

  private let effects = Locked(Effects())

  init() {}

  /// An image was opened. Others may count with the same counters.
  func attach(_ counters: EffectCounters) { effects.withLock { $0.living[ObjectIdentifier(counters)] = counters } }

  /// It is not served any more.
  func detach(_ counters: EffectCounters) {
    effects.withLock { effects in
      if effects.living.removeValue(forKey: ObjectIdentifier(counters)) != nil { effects.ended += counters.counts }
    }
  }

  func report(to status: inout ServerStatus) {
    status.locks.waits += lockWaits.value
    status.syncs.durations += syncs.value
    status.syncs.errors += UInt64(syncErrors.load(ordering: .relaxed))
    let counts = effects.withLock { effects in
      effects.living.values.reduce(into: effects.ended) { $0 += $1.counts }
    }
    status.effects.trimmedBytes += counts.trimmed
    status.effects.zeroedByPunchBytes += counts.punched
    status.effects.zeroedByZeroRangeBytes += counts.zeroed
    status.effects.zeroedByWriteBytes += counts.written
  }
}
