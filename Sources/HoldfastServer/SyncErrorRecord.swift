// What is remembered of an inode whose sync failed, for as long as the process lives (I7).

import Locking
import SystemPackage

/// The error of a failed sync. The kernel tells it once, so it belongs to the inode and not to the `Image`, which goes with its
/// last export: whoever opens the inode again gives its new `Image` this record, and the error is latched there as well. Any thread.
package final class SyncErrorRecord: Sendable {
  private let latched = Locked<Errno?>(nil)

  package init() {}

  /// Nil: no sync has failed since the last one was cleared.
  package var error: Errno? { latched.withLock { $0 } }

  func note(_ error: Errno?) { latched.withLock { $0 = error } }
}
