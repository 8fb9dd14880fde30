// A socket file is made with its mode, taken over only from the dead, and removed only by its maker.

import EventLoops
import Foundation
import Glibc
import Synchronization
import Syscalls
import SystemPackage
import Testing

@Suite struct UnixSocketFileTests {
  let directory: TemporaryDirectory
  let path: String

  init() throws {
    directory = try TemporaryDirectory()
    path = directory.path + "/s"
  }

  private func mode(_ path: String) throws -> Int {
    try #require(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int)
  }

  @Test(arguments: [0o600, 0o660, 0o666, 0o777], [0o000, 0o022, 0o077])
  func theModeIsWhatWasAskedWhateverTheUmask(wanted: Int, umasked: Int) async {
    // The umask belongs to the process.
    await #expect(processExitsWith: .success) { [wanted, umasked] in
      let directory = try TemporaryDirectory()
      umask(mode_t(umasked))
      let path = directory.path + "/s"
      let made = try UnixSocketFile.listen(path: path, mode: UInt32(wanted))
      let permissions = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
      #expect(permissions == wanted)
      withExtendedLifetime(made.file) {}
    }
  }

  @Test func aSocketOnWhichNobodyListensIsTakenOver() throws {
    do {
      let dead = try UnixSocketFile.listen(path: path, mode: 0o600)
      #expect(dead.file.path == path)
    }
    #expect(throws: Errno.connectionRefused) { _ = try Sockets.connect(to: .unix(path: path)).number }
    let made = try UnixSocketFile.listen(path: path, mode: 0o660)
    #expect(try mode(path) == 0o660)
    #expect(throws: Never.self) { _ = try Sockets.connect(to: .unix(path: path)).number }
    made.file.remove()
  }

  @Test func aSocketOnWhichSomebodyListensIsLeftAlone() throws {
    let first = try UnixSocketFile.listen(path: path, mode: 0o600)
    #expect(throws: UnixSocketError(path: path, reason: .inUse)) {
      _ = try UnixSocketFile.listen(path: path, mode: 0o600).file
    }
    #expect(throws: Never.self) { _ = try Sockets.connect(to: .unix(path: path)).number }
    first.file.remove()
  }

  @Test func aFullBacklogIsSomebodyWhoListens() throws {
    let first = try UnixSocketFile.listen(path: path, mode: 0o600, backlog: 0)
    let waiting = try Sockets.connect(to: .unix(path: path))
    #expect(throws: UnixSocketError(path: path, reason: .inUse)) {
      _ = try UnixSocketFile.listen(path: path, mode: 0o600).file
    }
    withExtendedLifetime(waiting.number) {}
    first.file.remove()
  }

  @Test func whatIsNotASocketIsRefused() throws {
    try Data("precious".utf8).write(to: URL(filePath: path))
    #expect(throws: UnixSocketError(path: path, reason: .notASocket)) {
      _ = try UnixSocketFile.listen(path: path, mode: 0o600).file
    }
    let link = directory.path + "/link"
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: directory.path + "/absent")
    #expect(throws: UnixSocketError(path: link, reason: .notASocket)) {
      _ = try UnixSocketFile.listen(path: link, mode: 0o600).file
    }
    #expect(try Data(contentsOf: URL(filePath: path)) == Data("precious".utf8))
  }

  @Test func theMakerRemovesItsFile() throws {
    let made = try UnixSocketFile.listen(path: path, mode: 0o600)
    made.file.remove()
    #expect(!FileManager.default.fileExists(atPath: path))
    made.file.remove()
  }

  @Test func aFileOfSomebodyElseIsNotRemoved() throws {
    let file: UnixSocketFile
    do { file = try UnixSocketFile.listen(path: path, mode: 0o600).file }
    // It stays on disk until the successor has another inode.
    try FileManager.default.moveItem(atPath: path, toPath: path + ".old")
    let successor = try UnixSocketFile.listen(path: path, mode: 0o600)
    file.remove()
    #expect(throws: Never.self) { _ = try Sockets.connect(to: .unix(path: path)).number }
    successor.file.remove()
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test func anImpossiblePathSaysWhatFailed() throws {
    let absent = directory.path + "/absent/s"
    #expect {
      _ = try UnixSocketFile.listen(path: absent, mode: 0o600).file
    } throws: { error in
      "\(error)" == "cannot listen on \(absent): open \(directory.path)/absent: No such file or directory"
    }
    let long = directory.path + "/" + String(repeating: "x", count: 100)
    #expect(throws: UnixSocketError(path: long, reason: .failed(call: "bind", .fileNameTooLong))) {
      _ = try UnixSocketFile.listen(path: long, mode: 0o600).file
    }
  }

  @Test func aDirectoryThatStaysLockedIsReported() throws {
    let lock = try Sockets.openDirectory(directory.path)
    try Sockets.tryLock(lock.number)
    #expect(throws: UnixSocketError(path: path, reason: .directoryIsLocked)) {
      _ = try UnixSocketFile.listen(path: path, mode: 0o600).file
    }
  }

  /// A dead socket lies there, and many start at once: one gets it, and it keeps it.
  @Test func ofSeveralStartersOneWins() throws {
    for _ in 0..<20 {
      do { _ = try UnixSocketFile.listen(path: path, mode: 0o600).file }
      let (winners, others, ended) = (Notes<UnixSocketFile>(), Notes<UnixSocketError>(), Tally())
      let keep = Gate()
      let gone = Tally()
      for _ in 0..<6 {
        try PosixThread.spawn(name: "starter") { [path] in
          do throws(UnixSocketError) {
            let made = try UnixSocketFile.listen(path: path, mode: 0o600)
            winners.add(made.file)
            ended.add()
            keep.pass()
          } catch {
            others.add(error)
            ended.add()
          }
          gone.add()
        }
      }
      try #require(ended.wait(for: 6))
      #expect(winners.all.count == 1)
      #expect(others.all == Array(repeating: UnixSocketError(path: path, reason: .inUse), count: 5))
      #expect(throws: Never.self) { _ = try Sockets.connect(to: .unix(path: path)).number }
      winners.all.first?.remove()
      keep.open()
      try #require(gone.wait(for: 6))
    }
  }
}
