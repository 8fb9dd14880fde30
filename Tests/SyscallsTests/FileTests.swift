// File calls: what they return, and that errors come as they are.

import Foundation
import Syscalls
import SystemPackage
import Testing

/// A file of its own, gone at the end.
private func withFile(_ body: (FilePath) throws -> Void) throws {
  let path = FilePath("/tmp/holdfast-syscalls.\(getpid()).\(UInt32.random(in: 0 ... .max))")
  _ = try Files.open(path, [.createNew, .writable])
  defer { try? Files.unlink(path) }
  try body(path)
}

private func write(_ bytes: [UInt8], to file: OpenFile, at offset: UInt64) throws(Errno) -> Int {
  defer { extendLifetime(file) }
  let span = bytes.span
  return try unsafe Files.pwrite(file.descriptor, span.bytes, at: offset)
}

@Suite struct FileTests {
  @Test func bytesLandAtTheirOffset() throws {
    try withFile { path in
      let file = try Files.open(path, .writable)
      #expect(try write([1, 2, 3], to: file, at: 1000) == 3)
      #expect(try Files.bytes(of: file, at: 999, count: 10) == [0, 1, 2, 3])
      #expect(try Files.bytes(of: file, at: 1003, count: 10) == [])
      #expect(try Files.fstat(file).sizeBytes == 1003)
    }
  }

  @Test func errorsAreThrownAsTheyAre() throws {
    #expect(throws: Errno.noSuchFileOrDirectory) { try Files.open("/nonexistent/file") }
    #expect(throws: Errno.isDirectory) { try Files.open("/tmp", .writable) }
    #expect(throws: Errno.notDirectory) { try Files.open("/dev/null", .directory) }
    try withFile { path in
      #expect(throws: Errno.fileExists) { try Files.open(path, .createNew) }
      let file = try Files.open(path)
      #expect(throws: Errno.badFileDescriptor) { try write([1], to: file, at: 0) }
      #expect(throws: Errno.overflow) { try write([1], to: file, at: 1 << 63) }
      #expect(throws: Errno.fileTooLarge) { try Files.ftruncate(Files.open(path, .writable), sizeBytes: 1 << 63) }
      #expect(throws: Errno.inappropriateIOCTLForDevice) { try Files.blockDeviceSizeBytes(file) }
    }
  }

  @Test func descriptorIsClosedWithItsLastOwner() throws {
    try withFile { path in
      var file: OpenFile? = try Files.open(path)
      let descriptor = try #require(file).descriptor
      #expect(fcntl(descriptor, F_GETFD) == FD_CLOEXEC)
      let link = FilePath("/proc/self/fd/\(descriptor)")
      let inode = try Files.stat(path).inode
      #expect(try Files.stat(link).inode == inode)
      file = nil
      // The number may serve another test by now, the file may not.
      #expect((try? Files.stat(link).inode) != inode)
    }
  }

  @Test func reopenedFileHasAnOffsetOfItsOwnAndADuplicateHasNot() throws {
    try withFile { path in
      let file = try Files.open(path, .writable)
      _ = try write([1, 2, 3], to: file, at: 0)
      let reopened = try Files.reopen(file)
      let duplicate = try Files.duplicate(file)
      try Files.seek(reopened.descriptor, to: 2)
      #expect(lseek(file.descriptor, 0, SEEK_CUR) == 0)
      try Files.seek(duplicate.descriptor, to: 1)
      #expect(lseek(file.descriptor, 0, SEEK_CUR) == 1)
      try Files.unlink(path)
      #expect(try Files.bytes(of: Files.reopen(file), at: 0, count: 3) == [1, 2, 3])
      extendLifetime((reopened, duplicate))
      _ = try Files.open(path, .createNew)
    }
  }

  @Test func locksBelongToAnOpen() throws {
    try withFile { path in
      let first = try Files.open(path, .writable)
      let second = try Files.open(path, .writable)
      try Files.ofdLock(first, .read, atByte: 100)
      #expect(try Files.ofdLockConflicts(second, .write, atByte: 100))
      #expect(try !Files.ofdLockConflicts(second, .read, atByte: 100))
      #expect(try !Files.ofdLockConflicts(second, .write, atByte: 101))
      #expect(try !Files.ofdLockConflicts(first, .write, atByte: 100))
      #expect(throws: Errno.resourceTemporarilyUnavailable) { try Files.ofdLock(second, .write, atByte: 100) }
      try Files.ofdLock(first, .none, atByte: 100)
      try Files.ofdLock(second, .write, atByte: 100)
    }
  }

  @Test func holesAreFound() throws {
    try withFile { path in
      let file = try Files.open(path, .writable)
      _ = try write([UInt8](repeating: 1, count: 4096), to: file, at: 1 << 20)
      #expect(try Files.seekData(file.descriptor, from: 0) == 1 << 20)
      #expect(try Files.seekHole(file.descriptor, from: 1 << 20) == (1 << 20) + 4096)
      #expect(throws: Errno.noSuchAddressOrDevice) { try Files.seekData(file.descriptor, from: (1 << 20) + 4096) }
      try Files.fallocate(file.descriptor, .punchHole, at: 1 << 20, length: 4096)
      #expect(throws: Errno.noSuchAddressOrDevice) { try Files.seekData(file.descriptor, from: 0) }
      extendLifetime(file)
    }
  }

  @Test func smallTextsAndNamesAreRead() throws {
    #expect(try Files.text(of: "/proc/self/comm").isEmpty == false)
    #expect(try Files.text(of: "/proc/self/status").contains("Pid:\t\(getpid())"))
    #expect(try Files.names(in: "/proc/self").contains("fdinfo"))
    #expect(throws: Errno.noSuchFileOrDirectory) { try Files.names(in: "/nonexistent") }
  }

  @Test func deviceNumbersAreTakenApart() {
    let number = Files.deviceNumber(major: 259, minor: 70_000)
    #expect(Files.deviceNumbers(number) == (259, 70_000))
  }

  @Test func writeBeyondTheFileSizeLimitIsAnErrorAndNotASignal() async {
    await #expect(processExitsWith: .exitCode(42)) {
      try ignoreFatalIOSignals()
      var limit = rlimit(rlim_cur: 4096, rlim_max: 4096)
      guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0 else { exit(1) }
      let path = FilePath("/tmp/holdfast-limit.\(getpid())")
      let file = try Files.open(path, [.createNew, .writable])
      try Files.unlink(path)
      do throws(Errno) {
        _ = try write([1], to: file, at: 4096)
        exit(2)
      } catch {
        exit(error == .fileTooLarge ? 42 : 3)
      }
    }
  }
}
