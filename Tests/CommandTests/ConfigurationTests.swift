// Configurations: what they mean, and the exact text of every complaint.

import Faults
import Syscalls
import SystemPackage
import Testing

@testable import holdfast

/// Reads `text` as /etc/holdfast/holdfast.toml of root.
func configuration(
  _ text: String, directories: RuntimeDirectories = rootDirectories
) throws(ConfigurationMistakes) -> ServePlan {
  try ConfigurationReader(directory: "/etc/holdfast", resolve: fakeResolver, directories: directories)
    .read(Array(text.utf8))
}

/// The complaints about `text`, as they are printed for a file named `f`.
func complaints(_ text: String) -> [String] {
  do throws(ConfigurationMistakes) {
    _ = try configuration(text)
    return []
  } catch { return error.lines(file: "f") }
}

@Suite struct ConfigurationFiles {
  @Test func everyKeyIsRead() throws {
    let plan = try configuration(
      """
      [server]
      listen = ["nbd+unix:///?socket=/run/holdfast/a%20b.sock", "nbd://localhost:0", "nbd://192.0.2.7"]
      default-export = "root"
      socket-mode = "0660"
      allow-plaintext = true
      max-connections = 7
      spin = false

      [[export]]
      name = "root"
      path = "/srv/root.img"
      size = "20GiB"
      create = true
      description = "build VM"

      [[export]]
      name = "iso"
      path = "debian.iso"
      read-only = true
      faults = ["read:delay=200ms", "read:error=EIO,nth=3"]
      """)
    #expect(
      plan.listeners == [
        .unix(path: "/run/holdfast/a b.sock"), loopback4(0), loopback6(0),
        ipv4(192, 0, 2, 7, port: 10809),
      ])
    #expect(plan.defaultExport == "root")
    #expect(plan.socketMode == SocketMode(bits: 0o660))
    #expect(plan.connectionsMax == 7)
    #expect(!plan.spins)
    #expect(
      plan.exports == [
        ExportPlan(
          name: "root", path: "/srv/root.img", createdSize: ByteSize(bytes: 20 << 30), description: "build VM"),
        ExportPlan(
          name: "iso", path: "/etc/holdfast/debian.iso", isReadOnly: true,
          faults: [try FaultRule(parsing: "read:delay=200ms"), try FaultRule(parsing: "read:error=EIO,nth=3")]),
      ])
  }

  @Test func whatIsLeftOutIsAsOnTheCommandLine() throws {
    let fromFile = try configuration("[[export]]\nname = \"a.img\"\npath = \"/a.img\"")
    var fromArguments = try plan("/a.img")
    fromArguments.defaultExport = nil
    fromArguments.plaintextPermission = "allow-plaintext = true"
    #expect(fromFile == fromArguments)
  }

  /// Also where the file says where to listen: it is what "holdfast status" looks for.
  @Test func thereIsAnAdminSocketUnlessItSaysOtherwise() throws {
    func admin(_ text: String, _ directories: RuntimeDirectories = rootDirectories) throws -> AdminPlan {
      let exports = "[server]\nlisten = [\"nbd://127.0.0.1\"]\n[[export]]\nname = \"a\"\npath = \"/a\"\n"
      return try configuration(exports + text, directories: directories).admin
    }
    let usual = AdminPlan(socket: "/run/holdfast/admin.sock", isDefault: true)
    #expect(try admin("") == usual)
    #expect(try admin("[admin]\nsocket = \"auto\"") == usual)
    #expect(try admin("[admin]\nsocket = \"\"") == AdminPlan())
    #expect(try admin("[admin]\nsocket = \"/run/x.sock\"") == AdminPlan(socket: "/run/x.sock"))
    var captive = rootDirectories
    captive.isCaptive = true
    #expect(try admin("", captive) == AdminPlan())
    let export = "[[export]]\nname = \"a\"\npath = \"/a\"\n"
    #expect(
      complaints(export + "[admin]\nsocket = \"x.sock\"") == [
        "f:5: [admin]: \"socket\": \"x.sock\" is no absolute path; write one, \"auto\", or \"\" for none"
      ])
    #expect(
      complaints(export + "[admin]\nsocket = \"/\(String(repeating: "x", count: 120))\"").first?
        .contains("a socket path has at most") == true)
  }

  @Test func allMistakesAreReportedAtOnce() {
    let text = """
      # a comment
      [server]
      listen = [
        "nbd://127.0.0.1:99999",   # no port
        "nbd://192.0.2.7:1",
        5,
      ]
      default-export = "rot"
      socket-mode = "rw-rw----"
      max-connections = 0
      allow-plaintxt = true

      [[export]]
      name = "root"
      path = "/srv/root.img"
      size = "20GB"

      [[export]]
      name = "iso"
      path = "/srv/debian.iso"
      raed-only = true

      [[export]]
      name = "root"
      read-only = "yes"

      [sever]
      """
    #expect(
      complaints(text) == [
        "f:4: [server]: \"listen\": \"99999\" in \"127.0.0.1:99999\" is not a port; write 0 to 65535",
        "f:5: [server]: \"listen\": 192.0.2.7:1 can be reached from other machines and nothing encrypts the connection; "
          + "listen on 127.0.0.1, or say allow-plaintext = true",
        "f:6: [server]: \"listen\" must be a list of strings; one element is a number",
        "f:8: [server]: \"default-export\": there is no export \"rot\"; did you mean \"root\"?",
        "f:9: [server]: \"socket-mode\": \"rw-rw----\" is not a file mode; write octal digits, such as 0660",
        "f:10: [server]: \"max-connections\" is 0; write 1 to 65536",
        "f:11: [server]: unknown key \"allow-plaintxt\"; did you mean \"allow-plaintext\"?",
        "f:16: export \"root\": \"size\" is the size of a new image; add create = true, or leave it out",
        "f:16: export \"root\": \"size\": \"20GB\" could mean powers of 1000 or 1024; write 20GiB for 1024",
        "f:21: export \"iso\": unknown key \"raed-only\"; did you mean \"read-only\"?",
        "f:23: export \"root\": \"path\" is missing",
        "f:24: export \"root\": the name is taken by the export on line 14",
        "f:25: export \"root\": \"read-only\" must be true or false, not a string",
        "f:27: unknown key \"sever\"; did you mean \"server\"?",
      ])
  }

  @Test(arguments: [
    ("", ["f:1: nothing to serve; add an [[export]] with a name and a path"]),
    (
      "server = 1\n[[export]]\nname='a'\npath='/a'",
      ["f:1: \"server\" must be a table with the header [server], not a number"]
    ),
    ("[export]\nname = 'a'", ["f:1: \"export\" must be tables with the header [[export]]"]),
    (
      "[[export]]\nname = ''\npath = ''",
      [
        "f:2: export \"\": \"name\": an export needs a name",
        "f:3: export \"\": \"path\" is empty; write the path of an image",
      ]
    ),
    (
      "[[export]]\nname = 'a'\npath = '/a'\nfaults = ['sync:lose', 'write:nth=3', 5]",
      [
        "f:4: export \"a\": \"faults\" must be a list of strings; one element is a number",
        "f:4: export \"a\": \"faults\": \"write:nth=3\" says when, but not what; add error=EIO, delay=200ms, short=512, "
          + "lose or enospc-until-trimmed",
      ]
    ),
    ("[[export]]\npath = '/a'", ["f:1: export 1: \"name\" is missing"]),
    (
      "[[export]]\nname = 'a'\npath = '/a'\ncreate = true",
      ["f:4: export \"a\": \"create\" needs the size of the new image; add size = \"20G\""]
    ),
    (
      "[[export]]\nname = 'a'\npath = '/a'\ncreate = true\nread-only = true\nsize='1G'",
      ["f:4: export \"a\": \"create\" and \"read-only\" contradict each other; leave one out"]
    ),
    (
      "[[export]]\nname = 'a'\npath = '/a'\nsize = 5",
      ["f:4: export \"a\": \"size\" must be a string in quotes, not a number"]
    ),
    ("[[export]]\nname = 'a\\u0000b'\npath = '/a'", ["f:2: NUL has no place in a configuration"]),
    (
      "[[export]]\nname = \"a\\nb\"\npath = '/a'",
      ["f:2: export \"a\nb\": \"name\": a name cannot have control characters"]
    ),
  ])
  func eachMistakeHasItsLineAndItsRemedy(text: String, expected: [String]) {
    #expect(complaints(text) == expected)
  }

  @Test(arguments: [
    ("nbd+unix:///run/x.sock", "\"nbd+unix:///run/x.sock\" names no socket; write \"nbd+unix:///?socket=/run/x.sock\""),
    ("nbd+unix:///?socket=", "the socket path is empty"),
    ("nbd+unix:///?socket=%zz", "\"nbd+unix:///?socket=%zz\" has a broken %-escape"),
    (
      "nbd://localhost/root",
      "\"nbd://localhost/root\" goes on behind the port; an address to listen on is nbd://HOST:PORT"
    ),
    ("nbds://localhost", "\"nbds://localhost\" asks for TLS, which is not supported yet"),
    ("localhost:10809", "\"localhost:10809\" is not an address; write nbd://HOST:PORT or nbd+unix:///?socket=PATH"),
    ("nbd://localhost\", \"nbd://127.0.0.1", "127.0.0.1:10809 is given twice"),
  ])
  func listenAddressesAreURIs(uri: String, complaint: String) {
    let text = "[server]\nlisten = [\"\(uri)\"]\n[[export]]\nname='a'\npath='/a'"
    #expect(complaints(text) == ["f:2: [server]: \"listen\": \(complaint)"])
  }

  @Test(arguments: [
    (
      "listen = [\n\n[[export]]\n",
      "f:3: export is neither a whole number nor true or false; put text in quotes, \"export\""
    ),
    ("[server]\na = nope\n", "f:2: nope is neither a whole number nor true or false; put text in quotes, \"nope\""),
    (
      "a = 1979-05-27T0 # x",
      "f:1: 1979-05-27T0 is neither a whole number nor true or false; put text in quotes, \"1979-05-27T0\""
    ),
    ("a = 1.5", "f:1: 1.5 is neither a whole number nor true or false; put text in quotes, \"1.5\""),
    ("a =\nb = 1", "f:1: a value is missing"),
    ("a = [1 2]", "f:1: 1 2 is neither a whole number nor true or false; put text in quotes, \"1 2\""),
    ("a = [\"x\"\n\"y\"]", "f:2: the list is not closed; write \"]\" behind its last element"),
    ("a = [1,\n", "f:2: a value is missing"),
    ("a = { b = 1\n}", "f:1: the table is not closed; write \"}\" behind its last value, on the same line"),
    ("\na = \"x\nb = 1", "f:2: the string has no closing \""),
    ("a = \"\"\"x\n\n", "f:1: the string has no closing \"\"\""),
    ("a = 'x' 'y'", "f:1: the line goes on with \"'\" where it should end"),
    ("a 5", "f:1: there is no \"=\" behind the key \"a\""),
    ("= 5", "f:1: \"=\" stands where a key should"),
    ("[server\n", "f:1: the header is not closed; write [server]"),
    ("[[export]\n", "f:1: the header is not closed; write [[export]]"),
    ("[]\n", "f:1: \"]\" stands where a key should"),
    ("a = \(String(repeating: "[", count: 100_000))", "f:1: more than 32 lists in one another"),
    ("a = 1\na = 2", "f:2: Error while parsing key-value pair: cannot redefine existing integer 'a'"),
  ])
  func syntaxMistakesHaveTheirLine(text: String, expected: String) {
    #expect(complaints(text) == [expected])
  }

  @Test func brokenTextIsRefusedWithItsLine() {
    let reader = ConfigurationReader(directory: "", resolve: fakeResolver, directories: rootDirectories)
    #expect(throws: ConfigurationMistakes(mistakes: [Mistake(line: 2, text: "the text is not UTF-8")])) {
      try reader.read(Array("a = 1\nb = \"".utf8) + [0xff, 0x0a])
    }
    #expect(throws: ConfigurationMistakes(mistakes: [Mistake(line: 1, text: "NUL has no place in a configuration")])) {
      try reader.read([0])
    }
  }
}

/// A path inside the repository.
func repository(_ path: String, file: String = #filePath) -> String {
  file.split(separator: "/").dropLast(3).map { "/\($0)" }.joined() + "/\(path)"
}
