// Arguments of `serve` to a plan, or to a sentence.

import Faults
import Syscalls
import Testing

@testable import holdfast

@Suite struct ServeArguments {
  @Test func loneImageIsTheDefaultExportAndHasItsFileName() throws {
    let plan = try plan("images/disk.img")
    #expect(plan.defaultExport == "disk.img")
    #expect(plan.exports == [ExportPlan(name: "disk.img", path: "images/disk.img")])
  }

  @Test func severalImagesHaveTheirFileNamesAndNoDefault() throws {
    let plan = try plan("a.img", "b/c.img", "--export", "root=/dev/vg0/a=b")
    #expect(plan.defaultExport == nil)
    #expect(plan.exports.map(\.name) == ["a.img", "c.img", "root"])
    #expect(plan.exports.map(\.path) == ["a.img", "b/c.img", "/dev/vg0/a=b"])
  }

  @Test func rootListensInRunAndOnLoopback() throws {
    #expect(try plan("a.img").listeners == [.unix(path: "/run/holdfast/nbd.sock"), loopback4(10809)])
  }

  @Test func othersListenInTheirRuntimeDirectory() throws {
    let user = RuntimeDirectories(isRoot: false, userDirectory: "/run/user/7")
    #expect(try plan("a.img", directories: user).listeners.first == .unix(path: "/run/user/7/holdfast/nbd.sock"))
    let unit = RuntimeDirectories(isRoot: false, unitDirectory: "/run/holdfast", userDirectory: "/run/user/7")
    #expect(try plan("a.img", directories: unit).listeners.first == .unix(path: "/run/holdfast/nbd.sock"))
  }

  @Test func withoutARuntimeDirectoryAListenerMustBeNamed() throws {
    let nowhere = RuntimeDirectories(isRoot: false)
    #expect(
      throws: usage(
        "XDG_RUNTIME_DIR is not set, so there is no place for a socket; pass --unix PATH or --tcp 127.0.0.1:10809")
    ) {
      try plan("a.img", directories: nowhere)
    }
    #expect(try plan("--unix", "s", "a.img", directories: nowhere).listeners == [.unix(path: "s")])
  }

  @Test func everyAddressOfAHostIsListenedOn() throws {
    #expect(
      try plan("--tcp", "localhost:0", "a.img").listeners == [loopback4(0), loopback6(0)])
    #expect(try plan("--tcp", "[::1]:7", "a.img").listeners == [loopback6(7)])
    #expect(try plan("--tcp", "[::1]", "a.img").listeners == [loopback6(10809)])
    #expect(try plan("--tcp", "127.0.0.1", "a.img").listeners == [loopback4(10809)])
  }

  @Test func plaintextLeavesTheMachineOnlyWhenAllowed() throws {
    for (text, host) in [
      ("192.0.2.7:1", "192.0.2.7:1"), ("0.0.0.0:1", "0.0.0.0:1"),
      ("files.example:1", "files.example:1 (192.0.2.7:1)"), ("half.example:1", "half.example:1 (192.0.2.7:1)"),
    ] {
      #expect(
        throws: usage(
          "--tcp: \(host) can be reached from other machines and nothing encrypts the connection; "
            + "listen on 127.0.0.1, or say --allow-plaintext")
      ) {
        try plan("--tcp", text, "a.img")
      }
      #expect(throws: Never.self) { try plan("--tcp", text, "--allow-plaintext", "a.img") }
    }
  }

  @Test func createMakesASparseImageOfThatSize() throws {
    let export = try plan("--create", "--size", "20G", "a.img").exports[0]
    #expect(export.createdSize == ByteSize(bytes: 20 << 30))
    #expect(!export.isReadOnly)
  }

  @Test func faultsAreForEveryImage() throws {
    let rules = ["write:error=EIO,nth=3", "read:delay=200ms,range=1M-2M"]
    let exports = try plan("--fault", rules[0], "a.img", "--fault", rules[1], "b.img").exports
    #expect(exports.map { $0.faults.map(\.text) } == [rules, rules])
  }

  @Test(
    arguments: [
      (["--fault", "write:error", "a"], "--fault: \"error\" in \"write:error\" has no value; write error=EIO"),
      ([], "nothing to serve; name an image: holdfast serve disk.img"),
      (["--size", "1G", "a"], "--size is the size of a new image; add --create, or leave it out"),
      (["--create", "a"], "--create needs the size of the new image; add --size 20G"),
      (
        ["--create", "--size", "1G", "--read-only", "a"],
        "--create and --read-only contradict each other; leave one out"
      ),
      (
        ["--create", "--size", "1GB", "a"],
        "--size: \"1GB\" could mean powers of 1000 or 1024; write 1GiB for 1024"
      ),
      (["--export", "root", "a"], "--export: \"root\" names no image; write --export NAME=IMAGE"),
      (["--export", "root=", "a"], "--export: \"root=\" names no image; write --export NAME=IMAGE"),
      (["--export", "=x", "a"], "--export: \"=x\" gives no name; for the default export pass the image alone: x"),
      (
        ["x/a.img", "y/a.img"],
        "x/a.img and y/a.img would both be exported as \"a.img\"; name one: --export NAME=y/a.img"
      ),
      (["--socket-mode", "rw", "a"], "--socket-mode: \"rw\" is not a file mode; write octal digits, such as 0660"),
      (["--socket-mode", "1777", "a"], "--socket-mode: \"1777\" is not a file mode; write octal digits, such as 0660"),
      (["--unix", "", "a"], "--unix: the socket path is empty"),
      (["--unix", "s", "--unix", "s", "a"], "s is given twice; leave one out"),
      (["--tcp", "::1:5", "a"], "--tcp: \"::1:5\" has several colons; write an IPv6 address in brackets, [::1]:10809"),
      (["--tcp", "[::1:5", "a"], "--tcp: \"[::1:5\" has no closing bracket; write [::1]:10809"),
      (["--tcp", "[::1]5", "a"], "--tcp: \"[::1]5\" goes on behind the bracket; write [::1]:10809"),
      (["--tcp", ":5", "a"], "--tcp: \":5\" names no host; write 127.0.0.1:10809"),
      (["--tcp", "127.0.0.1:65536", "a"], "--tcp: \"65536\" in \"127.0.0.1:65536\" is not a port; write 0 to 65535"),
      (["--tcp", "127.0.0.1:+5", "a"], "--tcp: \"+5\" in \"127.0.0.1:+5\" is not a port; write 0 to 65535"),
      (["--tcp", "127.0.0.1:", "a"], "--tcp: \"\" in \"127.0.0.1:\" is not a port; write 0 to 65535"),
      (["--tcp", "nowhere:5", "a"], "--tcp: the host \"nowhere\" has no address"),
      (["--tcp", "slow.example", "a"], "--tcp: the host \"slow.example\" has no address: Connection timed out"),
    ] as [([String], String)])
  func mistakesAreOneSentence(arguments: [String], sentence: String) throws {
    let command = try ServeCommand.parse(arguments)
    #expect(throws: usage(sentence)) { try command.plan(resolve: fakeResolver, directories: rootDirectories) }
  }

  @Test func longSocketPathsAreRefused() throws {
    let path = String(repeating: "x", count: 108)
    #expect(throws: usage("--unix: \"\(path)\" has 108 bytes; a socket path has at most 107")) {
      try plan("--unix", path, "a.img")
    }
    #expect(throws: Never.self) { try plan("--unix", String(repeating: "x", count: 107), "a.img") }
  }

  @Test func aConfigurationStandsAlone() throws {
    let command = try ServeCommand.parse(["--config", "f", "--read-only", "--tcp", "localhost", "a.img"])
    #expect(
      throws: usage("--config says what to serve; leave out IMAGE, --tcp, --read-only, or write it into the file")
    ) {
      try command.refuseArgumentsBesideConfiguration()
    }
    #expect(throws: Never.self) {
      try ServeCommand.parse(["--config", "f", "--log-level", "debug"]).refuseArgumentsBesideConfiguration()
    }
  }

  @Test func misspeltOptionsAreRefused() {
    #expect(throws: (any Error).self) { try ServeCommand.parse(["--siez", "1G", "a.img"]) }
    #expect(throws: (any Error).self) { try ServeCommand.parse(["--log-level", "loud", "a.img"]) }
  }
}
