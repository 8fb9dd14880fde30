// The keys of an [[export]] that say how its clients get it, and the exact text of every complaint about them.

import NBDServerCore
import Testing

@testable import holdfast

private func export(_ lines: String) throws -> ExportPlan {
  try #require(try configuration("[[export]]\nname = 'a'\npath = '/a'\n" + lines).exports.first)
}

@Suite struct ExportTermsInConfigurations {
  @Test func everyKeyIsRead() throws {
    let terms = try export(
      """
      window = { offset = "1MiB", size = 1048576 }
      block-size = { minimum = 512, preferred = 8192, maximum = "1MiB" }
      trim = "ignore"
      durability = "always"
      allow = ["192.0.2.0/24", "2001:db8::/32", "127.0.0.1", "unix", "uid:1000", "gid:0"]

        [export.limits]
        connections = 16
        in-flight = 256
        bytes = "64MiB"
      """
    ).terms
    #expect(terms.window == ExportWindow(offsetBytes: 1 << 20, sizeBytes: 1 << 20))
    #expect(terms.blockSizes == BlockSizes(minimum: 512, preferred: 8192, maximum: 1 << 20))
    #expect(terms.ignoresTrim && terms.durability == .always)
    #expect(terms.limits == ExportLimits(connections: 16, requestsInFlight: 256, bytes: 64 << 20))
    let ipv6: [UInt8] = [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 12)
    #expect(
      terms.access == [
        .network([192, 0, 2, 0], bits: 24), .network(ipv6, bits: 32), .network([127, 0, 0, 1], bits: 32), .unix,
        .unixUser(1000), .unixGroup(0),
      ])
    #expect(
      terms.access.map(\.text) == [
        "192.0.2.0/24", "2001:db8::/32", "127.0.0.1", "unix", "uid:1000", "gid:0",
      ])
    #expect(try export("durability = 'unsafe'").terms.durability == .never)
  }

  @Test func nothingAndEmptyAndZeroAreTheDefaults() throws {
    let defaults = try export("")
    #expect(defaults.terms == ExportTerms())
    let said = """
      description = ""
      size = ""
      window = { offset = 0, size = 0 }
      block-size = { minimum = 0, preferred = 0 }
      limits = { connections = 0, in-flight = 0, bytes = 0 }
      allow = ["any"]
      """
    #expect(try export(said) == defaults)
  }

  @Test(arguments: [
    ("trim = 'pnch'", "\"trim\" is \"pnch\"; did you mean \"punch\"?"),
    ("trim = 'off'", "\"trim\" is \"off\"; write \"punch\" or \"ignore\""),
    ("trim = true", "\"trim\" must be a string in quotes, not true or false"),
    ("durability = 'never'", "\"durability\" is \"never\"; write \"fua\", \"always\" or \"unsafe\""),
    ("durability = 'allways'", "\"durability\" is \"allways\"; did you mean \"always\"?"),
    ("window = 5", "\"window\" must be a table, { … }, not a number"),
    ("limits = [1]", "\"limits\" must be a table, { … }, not a list"),
    ("allow = 'any'", "\"allow\" must be a list of strings, [\"…\"], not a string"),
    ("allow = []", "\"allow\" is empty, so nobody could connect; write [\"any\"], or leave it out"),
    ("allow = [5]", "\"allow\" must be a list of strings; one element is a number"),
    (
      "allow = ['localhost']",
      "\"allow\": \"localhost\" is nobody who could be let in; write any, unix, uid:1000, gid:100, 192.0.2.0/24 or "
        + "2001:db8::/32"
    ),
    ("allow = ['unx']", "\"allow\": \"unx\" is nobody who could be let in; did you mean \"unix\"?"),
    ("allow = ['uid:root']", "\"allow\": \"uid:root\" has no number behind uid:; write uid:1000"),
    ("allow = ['gid:']", "\"allow\": \"gid:\" has no number behind gid:; write gid:1000"),
    ("allow = ['10.0.0.0/33']", "\"allow\": \"33\" in \"10.0.0.0/33\" is no prefix length; write 0 to 32"),
    ("allow = ['::/129']", "\"allow\": \"129\" in \"::/129\" is no prefix length; write 0 to 128"),
    ("allow = ['::/']", "\"allow\": \"\" in \"::/\" is no prefix length; write 0 to 128"),
    (
      "allow = ['10.1.2.3/8']",
      "\"allow\": \"10.1.2.3/8\" goes on behind its prefix; write 10.0.0.0/8, or 10.1.2.3 for one address"
    ),
  ])
  func eachMistakeHasItsRemedy(line: String, expected: String) {
    #expect(complaints("[[export]]\nname = 'a'\npath = '/a'\n\(line)") == ["f:4: export \"a\": \(expected)"])
  }

  @Test(arguments: [
    ("block-size", "minimum = 3", "\"minimum\" is 3, which is no power of two"),
    ("block-size", "minimum = 131072", "\"minimum\" is 131072; write 1 to 65536, or 0"),
    ("block-size", "preferred = 256", "\"preferred\" is 256; write 512 to 33554432, or 0"),
    ("block-size", "preferred = 1000", "\"preferred\" is 1000, which is no power of two"),
    ("block-size", "maximum = 4096", "\"maximum\" is 4096; write 1048576 to 33554432, or 0"),
    ("block-size", "maximum = '64MiB'", "\"maximum\" is 67108864; write 1048576 to 33554432, or 0"),
    ("block-size", "maximum = -1", "\"maximum\" is -1; write 1048576 to 33554432, or 0"),
    ("block-size", "maximum = true", "\"maximum\" must be a number of bytes, 4096 or \"1MiB\", not true or false"),
    (
      "block-size", "maximum = '1MB'",
      "\"maximum\": \"1MB\" could mean powers of 1000 or 1024; write 1MiB for 1024"
    ),
    ("block-size", "minimum = 4096, preferred = 512", "\"preferred\" is 512, less than \"minimum\", 4096"),
    (
      "block-size", "preferred = '4MiB', maximum = '2MiB'",
      "\"maximum\" is 2097152, less than \"preferred\", 4194304"
    ),
    (
      "block-size", "minimum = 4096, maximum = 1048577",
      "\"maximum\" is 1048577, no multiple of \"minimum\", 4096"
    ),
    ("block-size", "minimun = 1", "unknown key \"minimun\"; did you mean \"minimum\"?"),
    (
      "window", "offset = 'x'",
      "\"offset\": \"x\" is not a size; write a whole number of bytes, or one with K, M, G, T, KiB, MiB, GiB or TiB"
    ),
    (
      "window", "offset = 9223372036854775807, size = 1",
      "the window ends behind the last byte that a file can have, 9223372036854775807"
    ),
    ("window", "ofset = 1", "unknown key \"ofset\"; did you mean \"offset\"?"),
    ("limits", "connections = -1", "\"connections\" is -1; write 0 to 65536"),
    ("limits", "connections = '5'", "\"connections\" must be a whole number, not a string"),
    ("limits", "in-flight = 1000001", "\"in-flight\" is 1000001; write 0 to 1000000"),
    ("limits", "bytes = 4096", "\"bytes\" is 4096; write 33554432 to 1099511627776, or 0"),
    ("limits", "inflight = 1", "unknown key \"inflight\"; did you mean \"in-flight\"?"),
  ])
  func eachMistakeInsideATableNamesTheTable(table: String, keys: String, expected: String) {
    let text = "[[export]]\nname = 'a'\npath = '/a'\n\(table) = { \(keys) }"
    #expect(complaints(text) == ["f:4: export \"a\", \(table): \(expected)"])
  }

  @Test func aWindowKeepsToTheBlocks() {
    let text = """
      [[export]]
      name = "a"
      path = "/a"
      block-size = { minimum = 4096 }
      window = { offset = 512 }
      """
    #expect(
      complaints(text) == [
        "f:5: export \"a\", window: \"offset\" is 512, no multiple of the minimum block size, 4096"
      ])
  }
}

@Suite struct DropIns {
  private func read(_ main: String, _ dropIns: [(String, String)]) throws(ConfigurationMistakes) -> ServePlan {
    try ConfigurationReader(
      directory: "/etc/holdfast", resolve: fakeResolver, directories: rootDirectories,
      path: "/etc/holdfast/holdfast.toml"
    ).read(
      Array(main.utf8),
      dropIns: dropIns.map {
        DropIn(path: "/etc/holdfast/conf.d/\($0)", directory: "/etc/holdfast/conf.d", bytes: Array($1.utf8))
      })
  }

  private func complaints(_ main: String, _ dropIns: [(String, String)]) -> [String] {
    do throws(ConfigurationMistakes) {
      _ = try read(main, dropIns)
      return []
    } catch { return error.lines(file: "/etc/holdfast/holdfast.toml") }
  }

  private let a = "[[export]]\nname = \"a\"\npath = \"a.img\"\n"

  @Test func exportsAddUp() throws {
    let plan = try read(
      "[server]\ndefault-export = \"b\"\n" + a,
      [("10.toml", "[[export]]\nname = \"b\"\npath = \"b.img\""), ("20.toml", "")])
    #expect(plan.exports.map(\.name) == ["a", "b"])
    // Relative paths start at the file that names them.
    #expect(plan.exports.map(\.path) == ["/etc/holdfast/a.img", "/etc/holdfast/conf.d/b.img"])
    #expect(plan.defaultExport == "b")
    #expect(try read("", [("10.toml", a)]).exports.count == 1)
  }

  @Test func aNameThatIsGivenTwiceNamesBothFiles() {
    #expect(
      complaints(a, [("10.toml", "\n" + a)]) == [
        "/etc/holdfast/conf.d/10.toml:3: export \"a\": the name is taken by the export at /etc/holdfast/holdfast.toml:2"
      ])
    #expect(
      complaints("", [("10.toml", a), ("20.toml", a)]) == [
        "/etc/holdfast/conf.d/20.toml:2: export \"a\": the name is taken by the export at /etc/holdfast/conf.d/10.toml:2"
      ])
  }

  @Test func onlyExportsMayStandThere() {
    #expect(
      complaints(a, [("10.toml", "sever = 1\n[server]\nspin = false\n")]) == [
        "/etc/holdfast/conf.d/10.toml:1: unknown key \"sever\"; did you mean \"server\"?",
        "/etc/holdfast/conf.d/10.toml:2: [server] belongs into /etc/holdfast/holdfast.toml; this file may have "
          + "[[export]] tables only",
      ])
  }

  @Test func mistakesOfAllFilesAreReportedAtOnce() {
    #expect(
      complaints("[server]\nspin = 5\n", [("10.toml", "a = \n"), ("20.toml", "[[export]]\nname = \"x\"\n")]) == [
        "/etc/holdfast/holdfast.toml:2: [server]: \"spin\" must be true or false, not a number",
        "/etc/holdfast/conf.d/10.toml:1: a value is missing",
        "/etc/holdfast/conf.d/20.toml:1: export \"x\": \"path\" is missing",
      ])
  }

  @Test func eachConfigurationHasItsOwnDirectory() {
    #expect(dropInDirectory(of: "/etc/holdfast/holdfast.toml") == "/etc/holdfast/conf.d")
    #expect(dropInDirectory(of: "/etc/holdfast/backup.toml") == "/etc/holdfast/backup.conf.d")
    #expect(dropInDirectory(of: "holdfast.toml") == "conf.d")
  }
}
