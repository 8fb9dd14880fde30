// Fails the calls that a test picks.

import BlockBackend
import Locking
import SystemPackage

package final class FaultBackend: WrappingBackend {
  package let inner: any BlockBackend
  private let faults = Locked<[Fault]>([])

  private struct Fault {
    var kind: BackendCall.Kind
    /// Calls of the kind that still succeed.
    var skip: Int
    /// Calls of the kind that fail then.
    var count: Int
    var range: Range<UInt64>?
    var error: BackendError
  }

  package init(_ inner: any BlockBackend) { self.inner = inner }

  /// Fails calls of `kind`: the `nth` from now on (1 is the next one) and those behind it, `count` in all. With `range`
  /// only calls that overlap it count. A failed call has no effect.
  package func fail(
    _ kind: BackendCall.Kind, nth: Int = 1, count: Int = 1, in range: Range<UInt64>? = nil, with errno: Errno,
    at offset: UInt64? = nil
  ) {
    precondition(nth >= 1, "the next call is the first")
    let error = BackendError(errno, at: offset)
    faults.withLock { $0.append(Fault(kind: kind, skip: nth - 1, count: count, range: range, error: error)) }
  }

  /// Every call works again.
  package func heal() { faults.withLock { $0.removeAll() } }

  package func before(_ call: BackendCall) throws(BackendError) {
    try faults.withLock { faults throws(BackendError) in
      for index in faults.indices where faults[index].kind == call.kind && faults[index].count > 0 {
        if let range = faults[index].range, !range.overlaps(call.range) { continue }
        guard faults[index].skip == 0 else {
          faults[index].skip -= 1
          continue
        }
        faults[index].count -= 1
        throw faults[index].error
      }
    }
  }
}
