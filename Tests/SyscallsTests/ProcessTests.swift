// Programs beside us, temporary directories, files that take another's place.

import Glibc
import SystemPackage
import Testing

@testable import Syscalls

@Suite struct ProcessTests {
  private func end(_ script: String, adding variables: [String] = []) throws -> ChildProcess.End {
    let child = try ChildProcess("/bin/sh", ["-c", script], adding: variables)
    try child.awaitEnd()
    return try child.reap()
  }

  @Test func theEndOfAChildIsTold() throws {
    #expect(try end("exit 9") == .exited(9))
    #expect(try end("kill -TERM $$") == .killed(by: SIGTERM))
    #expect(ChildProcess.End.killed(by: 9).shellStatus == 137)
  }

  @Test func addedVariablesTakeThePlaceOfOthers() throws {
    #expect(try end("test \"$HOME|$x\" = 'there|a b'", adding: ["HOME=there", "x=a b"]) == .exited(0))
    // No other with a name that begins alike.
    #expect(try end("test -n \"$PATH\"", adding: ["P=x", "PATHS=x"]) == .exited(0))
  }

  @Test func aProgramThatIsNotThereIsAnError() {
    #expect(throws: Errno.noSuchFileOrDirectory) { try ChildProcess("/no/shell", [], adding: []) }
  }

  @Test func aRunningChildGetsSignals() throws {
    let child = try ChildProcess("/bin/sleep", ["60"], adding: [])
    child.signal(SIGKILL)
    try child.awaitEnd()
    #expect(try child.reap() == .killed(by: SIGKILL))
  }

  @Test func temporaryDirectoriesAreNewAndPrivate() throws {
    let first = try Files.makeTemporaryDirectory(prefix: "/tmp/holdfast-test-")
    let second = try Files.makeTemporaryDirectory(prefix: "/tmp/holdfast-test-")
    defer { for each in [first, second] { try? Files.removeDirectory(FilePath(each)) } }
    #expect(first != second && first.hasPrefix("/tmp/holdfast-test-"))
    #expect(throws: Errno.noSuchFileOrDirectory) { try Files.makeTemporaryDirectory(prefix: "/no/where-") }
  }
}
