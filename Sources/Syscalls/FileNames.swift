// Opening files, and what a file is.

import CLinux
import Glibc
import SystemPackage

/// How to open a file.
package struct OpenFlags: OptionSet, Sendable {
  package let rawValue: CInt
  package init(rawValue: CInt) { self.rawValue = rawValue }

  /// Also for writing; without it, for reading only.
  package static let writable = OpenFlags(rawValue: O_RDWR)
  /// The file must not exist and is made. Mode 0666 less the umask.
  package static let createNew = OpenFlags(rawValue: O_CREAT | O_EXCL)
  /// A block device must not be claimed by anybody (mounts included), and is claimed.
  package static let exclusiveDevice = OpenFlags(rawValue: O_EXCL)
  /// Opening does not wait for a peer (FIFO) or a carrier.
  package static let nonblocking = OpenFlags(rawValue: O_NONBLOCK)
  /// Fails unless it is a directory.
  package static let directory = OpenFlags(rawValue: O_DIRECTORY)
}

/// What `fstat(2)` says.
package struct FileStatus: Sendable {
  package enum Kind: Sendable { case regular, blockDevice, characterDevice, directory, fifo, socket, other }

  package var kind: Kind
  /// Bytes; 0 for a block device.
  package var sizeBytes: UInt64
  /// The file system that the file is on.
  package var device: UInt64
  package var inode: UInt64
  /// Which device a device node stands for.
  package var deviceNode: UInt64
  /// st_blksize, bytes.
  package var blockBytes: UInt64
  /// Storage in use, bytes.
  package var allocatedBytes: UInt64

  init(_ status: hf_status) {
    kind =
      switch status.mode & S_IFMT {
      case S_IFREG: .regular
      case S_IFBLK: .blockDevice
      case S_IFCHR: .characterDevice
      case S_IFDIR: .directory
      case S_IFIFO: .fifo
      case S_IFSOCK: .socket
      default: .other
      }
    sizeBytes = status.size
    device = status.dev
    inode = status.ino
    deviceNode = status.rdev
    blockBytes = status.block
    allocatedBytes = status.blocks512 * 512
  }
}

/// What `fstatfs(2)` says.
package struct FileSystemStatus: Sendable {
  /// `f_type`, as in linux/magic.h.
  package var magic: UInt64
  package var blockBytes: UInt64
}

extension Files {
  package static func open(_ path: FilePath, _ flags: OpenFlags = []) throws(Errno) -> OpenFile {
    let bits = flags.rawValue | O_CLOEXEC
    while true {
      let result = unsafe path.withPlatformString { unsafe hf_open($0, bits, 0o666) }
      if result == -Int64(EINTR) { continue }
      return OpenFile(owning: Int32(try check(result)))
    }
  }

  /// Opens the same inode again, with an offset of its own: by its descriptor, so that a renamed path cannot confuse.
  package static func reopen(_ file: OpenFile, _ flags: OpenFlags = []) throws(Errno) -> OpenFile {
    try open(FilePath("/proc/self/fd/\(file.descriptor)"), flags)
  }

  /// `dup(2)`: the same offset. For the test that takes I1's guard out.
  package static func duplicate(_ file: OpenFile) throws(Errno) -> OpenFile {
    OpenFile(owning: Int32(try check(hf_dup(file.descriptor))))
  }

  package static func unlink(_ path: FilePath) throws(Errno) {
    _ = try check(unsafe path.withPlatformString { unsafe hf_unlink($0) })
  }

  package static func fstat(_ file: OpenFile) throws(Errno) -> FileStatus {
    var status = hf_status()
    _ = try check(unsafe hf_fstat(file.descriptor, &status))
    return FileStatus(status)
  }

  package static func stat(_ path: FilePath) throws(Errno) -> FileStatus {
    var status = hf_status()
    _ = try check(unsafe path.withPlatformString { unsafe hf_stat($0, &status) })
    return FileStatus(status)
  }

  package static func fstatfs(_ file: OpenFile) throws(Errno) -> FileSystemStatus {
    var status = hf_fs_status()
    _ = try check(unsafe hf_fstatfs(file.descriptor, &status))
    return FileSystemStatus(magic: status.magic, blockBytes: status.block)
  }

  /// Major and minor number of a device.
  package static func deviceNumbers(_ device: UInt64) -> (major: UInt32, minor: UInt32) {
    (hf_major(device), hf_minor(device))
  }

  package static func deviceNumber(major: UInt32, minor: UInt32) -> UInt64 { hf_makedev(major, minor) }

  /// The names in a directory, without `.` and `..`, in no order.
  package static func names(in directory: FilePath) throws(Errno) -> [String] {
    let opened = unsafe directory.withPlatformString { unsafe opendir($0) }
    guard let stream = unsafe opened else { throw Errno(rawValue: Glibc.errno) }
    defer { _ = unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe String(cString: hf_dirent_name(entry))
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  /// The text of a small file of /proc or /sys, without white space at its end. At most 64 KiB of it.
  package static func text(of path: FilePath) throws(Errno) -> String {
    var bytes = try contents(of: path, bytesMax: 65536)
    while let last = bytes.last, last <= 0x20 { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The first bytes of a file, at most `bytesMax`.
  package static func contents(of path: FilePath, bytesMax: Int) throws(Errno) -> [UInt8] {
    let file = try open(path, .nonblocking)
    defer { extendLifetime(file) }
    var bytes = [UInt8](repeating: 0, count: bytesMax)
    var count = 0
    while count < bytes.count {
      var span = bytes.mutableSpan
      var rest = unsafe span.mutableBytes
      var tail = rest._mutatingExtracting(count..<rest.byteCount)
      do throws(Errno) {
        let more = try read(file.descriptor, into: &tail)
        if more == 0 { break }
        count += more
      } catch .interrupted {
        continue
      }
    }
    bytes.removeLast(bytesMax - count)
    return bytes
  }
}
