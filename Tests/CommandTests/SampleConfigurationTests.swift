// config/holdfast.toml shows every key at its default, and nothing else.

import Syscalls
import SystemPackage
import Testing

@testable import holdfast

@Suite struct SampleConfiguration {
  private let reader = ConfigurationReader(
    directory: "/etc/holdfast", resolve: fakeResolver, directories: rootDirectories)

  private func sample() throws -> String {
    String(
      decoding: try Files.contents(of: FilePath(repository("config/holdfast.toml")), bytesMax: 1 << 20), as: UTF8.self)
  }

  /// `#key = value` and `#[[export]]` without the "#"; prose has a blank behind it.
  private func uncommented() throws -> String {
    try sample().split(separator: "\n", omittingEmptySubsequences: false).map { line in
      let rest = line.dropFirst()
      return line.hasPrefix("#") && rest.first.map { $0.isLetter || $0 == "[" } == true ? rest : line
    }.joined(separator: "\n")
  }

  @Test func uncommentedItIsTheDefaults() throws {
    let plan = try reader.read(Array(try uncommented().utf8))
    let text = "[log]\nlevel = \"info\"\n[[export]]\nname = \"root\"\npath = \"/var/lib/holdfast/root.img\""
    #expect(plan == (try reader.read(Array(text.utf8))))
  }

  /// Every key that a reader asks for stands there.
  @Test func everyKeyIsShown() throws {
    let result = reader.readAll(Array(try uncommented().utf8), [])
    #expect(result.mistakes.isEmpty)
    #expect(result.unset.isEmpty, "config/holdfast.toml lacks \(result.unset)")
  }

  /// As it is installed it says what is missing, and nothing else is wrong with it.
  @Test func asInstalledItServesNothing() throws {
    let result = reader.readAll(Array(try sample().utf8), [])
    #expect(
      result.mistakes == [Mistake(line: 1, text: "nothing to serve; add an [[export]] with a name and a path")])
  }
}
