// Directories and files that are made for a while, or that appear complete.

import CLinux
import Glibc
import SystemPackage

extension Files {
  /// Makes a directory that only this user can enter: `prefix` and six characters.
  package static func makeTemporaryDirectory(prefix: String) throws(Errno) -> String {
    var name = Array("\(prefix)XXXXXX".utf8CString)
    let result = unsafe name.withUnsafeMutableBufferPointer { unsafe hf_make_temporary_directory($0.baseAddress) }
    _ = try checked(result)
    return String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Removes an empty directory.
  package static func removeDirectory(_ path: FilePath) throws(Errno) {
    _ = try checked(unsafe path.withPlatformString { unsafe hf_remove_directory($0) })
  }

  /// `from` takes the place of `to`, at once.
  package static func rename(_ from: FilePath, to: FilePath) throws(Errno) {
    _ = try checked(
      unsafe from.withPlatformString { from in unsafe to.withPlatformString { unsafe hf_rename(from, $0) } })
  }

  /// Writes a short text to the beginning of a file, and gives it permissions `mode`, whatever the umask.
  package static func write(_ text: String, to file: OpenFile, mode: UInt32) throws(Errno) {
    _ = try checked(hf_fchmod(file.descriptor, mode))
    var copy = text
    let result = copy.withUTF8 { bytes in unsafe hf_pwrite(file.descriptor, bytes.baseAddress, bytes.count, 0) }
    guard try check(result) == text.utf8.count else { throw .noSpace }
  }
}
