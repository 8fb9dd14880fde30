// A file descriptor with an owner: closed when the last reference goes.

import CLinux
import SystemPackage

/// An open file. The descriptor stays valid as long as this object lives; whoever keeps the number keeps the object.
package final class OpenFile: Sendable {
  package let descriptor: Int32

  /// Takes ownership of `descriptor`.
  package init(owning descriptor: Int32) { self.descriptor = descriptor }

  // The result is of no use: nothing is ever left to write back that a sync did not already report.
  deinit { _ = hf_close(descriptor) }
}
