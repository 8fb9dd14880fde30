// Which image: the key of a lock table. Never an export, a descriptor or a path (invariants, "Key of a lock table").

import Synchronization

/// Two opens with equal identities touch the same bytes.
package enum ImageIdentity: Hashable, Sendable {
  /// A regular file: st_dev and st_ino.
  case file(device: UInt64, inode: UInt64)
  /// A block device: st_rdev. Several nodes may stand for one device.
  case blockDevice(UInt64)
  /// Memory of this process; each has its own number.
  case memory(UInt64)

  private static let lastMemory = Atomic<UInt64>(0)

  /// A number that no other image has.
  package static func nextMemory() -> ImageIdentity {
    .memory(lastMemory.wrappingAdd(1, ordering: .relaxed).newValue)
  }
}
