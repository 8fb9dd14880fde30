// A copy of an image that clients write to, as it was between two requests:
//
//     new file ── flushes ── lock everything ── flush ── clone ── unlock ── sync of the copy ── its name
//                 (long)  └────────── writers wait ─────────┘
//
// The first flush leaves little to do for the second one, which is made under the lock.

import BlockBackend
import NBDServerCore
import Syscalls
import SystemPackage

/// What became of a snapshot. Times are nanoseconds.
package struct SnapshotReport: Sendable, Equatable {
  package var sizeBytes: UInt64
  /// From the moment requests may have begun to wait for it until they could go on.
  package var stallNanoseconds: Int64
  /// Of this, until the requests before it had ended.
  package var lockWaitNanoseconds: Int64
  /// All of it.
  package var totalNanoseconds: Int64
}

package enum SnapshotError: Error, Sendable, Equatable {
  /// There is no copy, and nothing was left behind, or the error says what.
  case failed(CopyError)
  /// The image cannot be synced, so a copy would lack what clients believe to be in it.
  case syncFailed(Errno)
  /// The requests in flight took longer than this.
  case busy(milliseconds: Int)
}

extension Image {
  /// Copies the whole image, whatever part of it an export shows, to a new file at `path`. Blocks.
  /// - Parameter waitMilliseconds: how long it waits for requests in flight, and others behind it.
  package func snapshot(
    to path: FilePath, waitMilliseconds: Int = Limits.wholeLockMilliseconds
  ) throws(SnapshotError) -> SnapshotReport {
    let begun = MonotonicClock.nanoseconds
    let copy: any ImageCopy
    do throws(CopyError) { copy = try backend.beginCopy(at: path) } catch { throw .failed(error) }
    try syncUntilLittleIsLeft()

    let queued = MonotonicClock.nanoseconds
    var locked = queued
    do throws(WholeLockError<SnapshotError>) {
      // Shared: READs change nothing, so they need not wait.
      try withEverythingLocked(.shared, waitMilliseconds: waitMilliseconds, mutates: false) {
        () throws(SnapshotError) in
        locked = MonotonicClock.nanoseconds
        try syncBeforeCopy()
        do throws(CopyError) { try copy.take() } catch { throw .failed(error) }
      }
    } catch {
      switch error {
      case .busy: throw .busy(milliseconds: waitMilliseconds)
      case .failed(let error): throw error
      }
    }
    let unlocked = MonotonicClock.nanoseconds
    do throws(CopyError) { try copy.publish() } catch { throw .failed(error) }
    return SnapshotReport(
      sizeBytes: backend.geometry.sizeBytes, stallNanoseconds: unlocked - queued,
      lockWaitNanoseconds: locked - queued, totalNanoseconds: MonotonicClock.nanoseconds - begun)
  }

  /// What clients write during a flush is left to the one under the lock: a long one is followed by another.
  private func syncUntilLittleIsLeft() throws(SnapshotError) {
    for _ in 0..<Image.flushesBeforeLockMax {
      let begun = MonotonicClock.nanoseconds
      try syncBeforeCopy()
      if MonotonicClock.nanoseconds - begun < Image.shortFlushNanoseconds { return }
    }
  }

  /// Where the disk cannot keep up with its writers, more flushes make none short.
  private static let flushesBeforeLockMax = 5
  private static let shortFlushNanoseconds: Int64 = 200_000_000

  private func syncBeforeCopy() throws(SnapshotError) {
    do throws(BackendError) { try flush() } catch { throw .syncFailed(error.errno) }
  }
}
