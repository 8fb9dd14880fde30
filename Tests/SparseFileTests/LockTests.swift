// Image locks, against locks taken by hand and against QEMU.

import BlockBackend
import Foundation
import SparseFile
import Syscalls
import SystemPackage
import TestBackends
import Testing

func openError(_ path: FilePath, _ options: OpenOptions = OpenOptions()) -> ImageOpenError? {
  do throws(ImageOpenError) {
    _ = try ImageFile.open(path: path, options: options)
    return nil
  } catch {
    return error
  }
}

let reading = OpenOptions(readOnly: true)

/// Image locks, as QEMU has them.
@Suite struct LockTests {
  /// Another program: another open of the file, with locks on some bytes.
  private func withLocks(
    _ bytes: [UInt64], _ kind: Files.LockKind = .read, _ body: (FilePath) throws -> Void
  ) throws {
    try withFile(sizeBytes: 8192) { path in
      let other = try Files.open(path, .writable)
      for byte in bytes { try Files.ofdLock(other, kind, atByte: byte) }
      try body(path)
      extendLifetime(other)
    }
  }

  @Test func writersBytesKeepWritersAndReadersAway() throws {
    try withLocks([100, 101, 201, 203]) { path in
      #expect(openError(path)?.category == .locked(LockHolder(pid: Int(getpid()), name: ownName())))
      #expect(openError(path, reading) != nil)
    }
  }

  @Test func readersBytesKeepWritersAwayOnly() throws {
    try withLocks([100, 201, 203]) { path in
      let error = try #require(openError(path))
      #expect(error.description.contains("pid \(getpid())"))
      #expect(error.description.contains("--read-only"))
      #expect(openError(path, reading) == nil)
    }
  }

  @Test func exclusiveLockOfSomeOtherProgramIsRespected() throws {
    try withLocks([100, 101, 200, 201, 203], .write) { path in
      #expect(openError(path) != nil)
      let error = try #require(openError(path, reading))
      #expect(!error.description.contains("--read-only"))
    }
  }

  @Test func locksOfOthersElsewhereDoNotMatter() throws {
    try withLocks([0, 99, 104, 199, 204]) { path in #expect(openError(path) == nil) }
  }

  @Test func refusedOpenLeavesNoLockBehind() throws {
    try withLocks([101]) { path in
      #expect(openError(path) != nil)
      let probe = try Files.open(path, .writable)
      for byte: UInt64 in [100, 201, 203] {
        #expect(try !Files.ofdLockConflicts(probe, .write, atByte: byte))
      }
    }
  }

  @Test func oneProcessSharesItsLocksUntilTheLastUserGoes() throws {
    try withFile(sizeBytes: 8192) { path in
      let probe = try Files.open(path, .writable)
      func isHeld(_ byte: UInt64) throws -> Bool { try Files.ofdLockConflicts(probe, .write, atByte: byte) }
      var reader: ImageFile? = try ImageFile.open(path: path, options: reading)
      #expect(try isHeld(100) && !isHeld(101) && isHeld(201))
      var writer: ImageFile? = try ImageFile.open(path: path)
      var second: ImageFile? = try ImageFile.open(path: path)
      #expect(writer?.identity == reader?.identity && second?.identity == writer?.identity)
      #expect(try isHeld(101))
      writer = nil
      #expect(try isHeld(101))
      second = nil
      #expect(try isHeld(100) && !isHeld(101) && isHeld(201) && isHeld(203))
      extendLifetime(reader)
      reader = nil
      for byte: UInt64 in [100, 101, 201, 203] { #expect(try !isHeld(byte)) }
      #expect(writer == nil && second == nil && reader == nil)
    }
  }

  @Test func readerStaysLockedWhenTheWriterIsRefused() throws {
    try withLocks([100, 201, 203]) { path in
      let reader = try ImageFile.open(path: path, options: reading)
      #expect(openError(path) != nil)
      let probe = try Files.open(path, .writable)
      #expect(try Files.ofdLockConflicts(probe, .write, atByte: 100))
      #expect(try reader.bytes(at: 0, 1) == [0])
    }
  }

  /// Both names lead to one inode, so one set of locks.
  @Test func hardLinksAreOneImage() throws {
    try withDirectory { directory in
      let path = directory.appending("a")
      try makeSparse(path, 8192)
      try FileManager.default.linkItem(atPath: path.string, toPath: directory.appending("b").string)
      let first = try ImageFile.open(path: path)
      let second = try ImageFile.open(path: directory.appending("b"))
      #expect(first.identity == second.identity)
    }
  }

  private func ownName() -> String { (try? Files.text(of: "/proc/self/comm")) ?? "?" }
}

/// The same against the real thing, both ways round.
@Suite(.enabled(if: has("qemu-io") && has("qemu-nbd"), "needs qemu-io and qemu-nbd")) struct LockWithQEMUTests {
  /// The image used by qemu-nbd.
  private func withQEMU(_ flags: [String], _ body: (_ path: FilePath, _ pid: Int) throws -> Void) throws {
    try withFile(sizeBytes: 1 << 20) { path in
      let qemu = Process()
      qemu.executableURL = URL(fileURLWithPath: try #require(find("qemu-nbd")))
      qemu.arguments = flags + ["--persistent", "--format=raw", "--socket=\(path).sock", path.string]
      try qemu.run()
      defer {
        // Not SIGTERM: a child of a Dispatch thread has it blocked.
        kill(qemu.processIdentifier, SIGKILL)
        qemu.waitUntilExit()
      }
      for _ in 0..<500 where !FileManager.default.fileExists(atPath: "\(path).sock") { usleep(10_000) }
      // It listens before it opens the image, and answers after that.
      #expect(try output("qemu-nbd", ["--list", "--socket=\(path).sock"]).status == 0)
      try body(path, Int(qemu.processIdentifier))
    }
  }

  private func qemuIO(_ path: FilePath, _ flags: String...) throws -> Int32 {
    try output("qemu-io", flags + ["-f", "raw", "-c", "read 0 512", path.string]).status
  }

  @Test func qemuWritingKeepsUsAway() throws {
    try withQEMU([]) { path, pid in
      let error = try #require(openError(path))
      #expect(error.category == .locked(LockHolder(pid: pid, name: "qemu-nbd")))
      #expect(error.description.contains("in use by pid \(pid) (qemu-nbd)"))
      #expect(!error.description.contains("--read-only"), "would not help: \(error)")
      #expect(openError(path, reading)?.category == .locked(LockHolder(pid: pid, name: "qemu-nbd")))
    }
  }

  @Test func qemuReadingLeavesOurReadersAlone() throws {
    try withQEMU(["--read-only"]) { path, _ in #expect(openError(path, reading) == nil) }
  }

  @Test func ourWritingKeepsQEMUAway() throws {
    try withFile(sizeBytes: 1 << 20) { path in
      do {
        let image = try ImageFile.open(path: path)
        #expect(try qemuIO(path) != 0)
        // A reader of raw images shares everything, so QEMU lets it in, as it does beside a QEMU that writes.
        #expect(try qemuIO(path, "-r") == 0)
        #expect(try image.bytes(at: 0, 1) == [0])
      }
      // Another test may start a process just now: until its exec the child holds our descriptors, and so the lock.
      let isFree = try (0..<50).contains { _ in
        if try qemuIO(path) == 0 { return true }
        usleep(100_000)
        return false
      }
      #expect(isFree)
    }
  }

  @Test func ourReadingKeepsWritingQEMUAway() throws {
    try withFile(sizeBytes: 1 << 20) { path in
      let image = try ImageFile.open(path: path, options: reading)
      #expect(try qemuIO(path) != 0)
      #expect(try qemuIO(path, "-r") == 0)
      #expect(try image.bytes(at: 0, 1) == [0])
    }
  }
}
