// A file descriptor with exactly one owner, closed when the owner drops it.

import CLinux
import SystemPackage

/// Closes its descriptor exactly once: `deinit` does, unless it was taken.
package struct OwnedDescriptor: ~Copyable, Sendable {
  /// Valid as long as this value lives.
  package let number: Int32

  /// Takes ownership of an open descriptor that nobody else closes.
  package init(owning number: Int32) {
    precondition(number >= 0, "an owned descriptor is open")
    self.number = number
  }

  // The result of close is of no use here: Linux has released the number whatever it says.
  deinit { _ = hf_close(number) }

  /// Ends the ownership: the caller closes it now.
  package consuming func take() -> Int32 {
    let number = number
    discard self
    return number
  }
}

/// Turns "at least 0 or -errno" into a value or an error.
@inline(__always)
func checked(_ result: Int32) throws(Errno) -> Int32 {
  if result < 0 { throw Errno(rawValue: -result) }
  return result
}

@inline(__always)
func checked(_ result: Int) throws(Errno) -> Int {
  if result < 0 { throw Errno(rawValue: Int32(truncatingIfNeeded: -result)) }
  return result
}

@inline(__always)
func checked(_ result: Int64) throws(Errno) -> Int64 {
  if result < 0 { throw Errno(rawValue: Int32(truncatingIfNeeded: -result)) }
  return result
}
