// How many descriptors this process may have open (RLIMIT_NOFILE).

import CLinux
import SystemPackage

package enum DescriptorLimit {
  package static func current() throws(Errno) -> (soft: UInt64, hard: UInt64) {
    var soft: UInt64 = 0
    var hard: UInt64 = 0
    _ = try checked(unsafe hf_descriptor_limits(&soft, &hard))
    return (soft, hard)
  }

  package static func set(soft: UInt64) throws(Errno) { _ = try checked(hf_set_descriptor_limit(soft)) }

  /// Raises the soft limit towards the hard one, at most to `wanted`; never lowers it. The soft limit afterwards.
  @discardableResult
  package static func raise(to wanted: UInt64) throws(Errno) -> UInt64 {
    let (soft, hard) = try current()
    let raised = max(soft, min(wanted, hard))
    if raised != soft { try set(soft: raised) }
    return raised
  }
}
