// Files that share their storage with others until they are written to, and files that get their name when they are complete.

import CLinux
import Glibc
import SystemPackage

extension Files {
  /// `ioctl(2)` with FICLONE: `copy` has the bytes and the layout of `file` afterwards. What is dirty in memory is written out
  /// first. Both are on one file system.
  package static func clone(_ file: OpenFile, into copy: OpenFile) throws(Errno) {
    while true {
      let result = hf_clone(copy.descriptor, file.descriptor)
      if result == -Int64(EINTR) { continue }
      _ = try check(result)
      return
    }
  }

  /// `ioctl(2)` with FICLONERANGE, from the start of `file` to the start of `copy`. `length` is a whole number of blocks, or 0 for
  /// everything.
  package static func cloneStart(of file: OpenFile, length: UInt64, into copy: OpenFile) throws(Errno) {
    _ = try check(hf_clone_range(copy.descriptor, file.descriptor, 0, length, 0))
  }

  /// A new file in `directory` without a name, which goes when it is closed (O_TMPFILE). Only its owner may read it.
  package static func openUnnamed(in directory: OpenFile) throws(Errno) -> OpenFile {
    OpenFile(owning: Int32(try check(hf_open_unnamed(directory.descriptor, 0o600))))
  }

  /// `linkat(2)`: a file without a name gets one in `directory`, which nothing may have yet.
  package static func name(_ file: OpenFile, _ name: String, in directory: OpenFile) throws(Errno) {
    _ = try check(unsafe hf_name_file(file.descriptor, directory.descriptor, name))
  }

  /// `unlinkat(2)`.
  package static func unlink(_ name: String, in directory: OpenFile) throws(Errno) {
    _ = try check(unsafe hf_unlink_in(directory.descriptor, name))
  }
}
