// The file side of Unix sockets: what stands at a path, its mode, and who may replace it.

import CLinux
import SystemPackage

extension Sockets {
  /// An inode, as long as it exists.
  package struct FileIdentity: Hashable, Sendable {
    let device: UInt64
    let inode: UInt64
  }

  package enum AtPath: Equatable, Sendable {
    case nothing
    case socket(FileIdentity)
    case somethingElse
  }

  /// Does not follow a symbolic link at the end of `path`.
  package static func lookUp(_ path: String) throws(Errno) -> AtPath {
    var device: UInt64 = 0
    var inode: UInt64 = 0
    switch try checked(unsafe hf_socket_at(path, &device, &inode)) {
    case 0: return .nothing
    case 1: return .socket(FileIdentity(device: device, inode: inode))
    default: return .somethingElse
    }
  }

  /// The mode a socket file gets from `bind`, before the umask.
  package static func setModeBeforeBind(_ descriptor: Int32, _ mode: UInt32) throws(Errno) {
    _ = try checked(hf_fchmod(descriptor, mode))
  }

  package static func setMode(_ path: String, _ mode: UInt32) throws(Errno) {
    _ = try checked(unsafe hf_chmod(path, mode))
  }

  package static func unlink(_ path: String) throws(Errno) { _ = try checked(unsafe hf_unlink(path)) }

  /// A descriptor of a directory, to lock it.
  package static func openDirectory(_ path: String) throws(Errno) -> OwnedDescriptor {
    OwnedDescriptor(owning: try checked(unsafe hf_open_directory(path)))
  }

  /// flock, exclusive, without waiting: throws `.wouldBlock` when somebody holds it. Ends with the descriptor.
  package static func tryLock(_ descriptor: Int32) throws(Errno) { _ = try checked(hf_try_flock(descriptor)) }
}
