// Open file description locks: they belong to one open of a file, not to a process, and go when it is closed.

import CLinux
import Glibc
import SystemPackage

extension Files {
  package enum LockKind: Sendable {
    case read, write, none

    fileprivate var type: CInt {
      switch self {
      case .read: CInt(F_RDLCK)
      case .write: CInt(F_WRLCK)
      case .none: CInt(F_UNLCK)
      }
    }
  }

  /// F_OFD_SETLK on one byte: takes or drops a lock, without waiting.
  /// - Throws: EAGAIN or EACCES when another open of the file holds a conflicting lock.
  package static func ofdLock(_ file: OpenFile, _ kind: LockKind, atByte byte: UInt64) throws(Errno) {
    _ = try check(hf_ofd_lock(file.descriptor, kind.type, Int64(clamping: byte), 1))
  }

  /// F_OFD_GETLK on one byte: would this lock conflict with that of another open of the file?
  package static func ofdLockConflicts(_ file: OpenFile, _ kind: LockKind, atByte byte: UInt64) throws(Errno) -> Bool {
    try check(hf_ofd_conflicts(file.descriptor, kind.type, Int64(clamping: byte), 1)) != 0
  }
}
