// The image lock: keeps other programs from writing what we serve, and us from writing what they use. It speaks QEMU's
// language (block/file-posix.c), so it holds against qemu-img, qemu-nbd and virtual machines as well.
//
//     byte 100 + i: "I use permission i"        i = 0 read, 1 write, 2 write unchanged, 3 resize
//     byte 200 + i: "I do not share permission i"
//
// Everybody takes shared locks only, so they never collide when taken; then each asks whether an exclusive lock on the
// bytes that would contradict its own could be had.

import Syscalls
import SystemPackage

enum ImageUse: Sendable, CaseIterable {
  case reader, writer

  /// Bytes on which a shared lock is held.
  var heldBytes: Set<UInt64> {
    switch self {
    case .reader: [100, 201, 203]
    case .writer: [100, 101, 201, 203]
    }
  }

  /// Bytes that nobody else may hold.
  var testedBytes: [UInt64] {
    switch self {
    case .reader: [200, 101, 103]
    case .writer: [200, 201, 101, 103]
    }
  }
}

/// The locks on one inode, on a descriptor of their own. Gone when it is closed.
struct ImageLock {
  let file: OpenFile
  private(set) var heldBytes: Set<UInt64> = []

  init(_ file: OpenFile) { self.file = file }

  enum Outcome: Equatable {
    case locked
    /// Somebody else holds one of these bytes. As a reader we could have had the image if `readerIsWelcome`.
    case conflict(onBytes: Set<UInt64>, readerIsWelcome: Bool)
    /// No such locks on this file system.
    case unsupported(Errno)
    /// Whether somebody else holds one of these bytes could not be found out (a lock server that does not answer).
    case failed(Errno)
  }

  /// Adds what `use` needs. On anything but `.locked` the locks are as before.
  mutating func add(_ use: ImageUse) -> Outcome {
    let before = heldBytes
    do throws(Errno) {
      for byte in use.heldBytes.subtracting(heldBytes) {
        try Files.ofdLock(file, .read, atByte: byte)
        heldBytes.insert(byte)
      }
      var conflicts: Set<UInt64> = []
      for byte in use.testedBytes
      where try Files.ofdLockConflicts(file, .write, atByte: byte) {
        conflicts.insert(byte)
      }
      if conflicts.isEmpty { return .locked }
      keep(before)
      let readerIsWelcome = use == .writer && conflicts.isDisjoint(with: ImageUse.reader.testedBytes)
      return .conflict(onBytes: conflicts, readerIsWelcome: readerIsWelcome)
    } catch {
      let refused = use.heldBytes.subtracting(heldBytes)
      keep(before)
      return switch error {
      // A program that takes exclusive locks on these bytes is not QEMU, but means the same.
      case .resourceTemporarilyUnavailable, .permissionDenied: .conflict(onBytes: refused, readerIsWelcome: false)
      case .notSupported, .noFunction, .noLocks, .invalidArgument: .unsupported(error)
      default: .failed(error)
      }
    }
  }

  /// Drops all bytes but these. Unlocking what one holds does not fail.
  mutating func keep(_ bytes: Set<UInt64>) {
    for byte in heldBytes.subtracting(bytes) {
      do throws(Errno) { try Files.ofdLock(file, .none, atByte: byte) } catch { continue }
    }
    heldBytes.formIntersection(bytes)
  }
}
