// The bugs of Mutants/ stay what they are: each patch still applies, and says what it is and which tests must notice.

import Foundation
import Testing

@Suite struct MutantsTests {
  private static let folder = Repository.root.appending(path: "Mutants")

  private static let patches: [URL] = {
    let files = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    return (files ?? []).filter { $0.pathExtension == "patch" }.sorted { $0.path < $1.path }
  }()

  @Test func thereAreAtLeastForty() { #expect(Self.patches.count >= 40) }

  @Test func everyPatchStillApplies() throws {
    for patch in Self.patches {
      let git = Process()
      git.executableURL = URL(filePath: "/usr/bin/env")
      git.arguments = ["git", "apply", "--check", patch.path]
      git.currentDirectoryURL = Repository.root
      let errors = Pipe()
      git.standardError = errors
      try git.run()
      let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      git.waitUntilExit()
      #expect(
        git.terminationStatus == 0,
        "\(patch.lastPathComponent) no longer applies; make the same bug in the code as it is now: \(text)")
    }
  }

  @Test func everyPatchNamesItsBugAndTestsThatExist() throws {
    let words = Set(
      Repository.tests.flatMap { file in
        [file.target] + file.lines.compactMap(declaredName)
      })
    for patch in Self.patches {
      let lines = try String(contentsOf: patch, encoding: .utf8).split(separator: "\n")
      let name = patch.lastPathComponent
      let test = lines.first { $0.hasPrefix("test: ") }?.dropFirst("test: ".count) ?? ""
      #expect(!test.isEmpty, "\(name): begin with \"test: FILTER\", the tests that must notice it")
      #expect(
        lines.contains { $0.hasPrefix("bug: ") && $0.hasSuffix(".") }, "\(name): say the bug in a line \"bug: …\"")
      for word in test.split(whereSeparator: { !$0.isLetter && !$0.isNumber }) {
        #expect(words.contains(String(word)), "\(name): there is no test \(word)")
      }
    }
  }

  /// The suite or function that a line begins, attributes aside.
  private func declaredName(_ line: String) -> String? {
    var words = line.split(separator: " ")[...]
    while let word = words.popFirst() {
      guard word == "func" || word == "struct" else { continue }
      return words.first.map { String($0.prefix { $0.isLetter || $0.isNumber || $0 == "_" }) }
    }
    return nil
  }
}
