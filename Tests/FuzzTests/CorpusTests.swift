// Every input that the fuzzer starts from or has found goes through its target again.

import BlockBackend
import Foundation
import FuzzTargets
import Oracle
import Testing

@Suite struct CorpusTests {
  private static let corpus = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Fuzz/corpus")

  private static func inputs(_ target: String) throws -> [(name: String, bytes: [UInt8])] {
    let folder = corpus.appending(path: target)
    return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
      .map { ($0, [UInt8](try Data(contentsOf: folder.appending(path: $0)))) }
  }

  @Test(arguments: fuzzTargets.map(\.name)) func everyInputOfTheCorpusIsWithstood(target: String) throws {
    let run = try #require(fuzzTargets.first { $0.name == target }?.run)
    let inputs = try Self.inputs(target)
    #expect(inputs.count >= 5, "\(target) has inputs to start from")
    for (name, bytes) in inputs {
      do { try run(bytes) } catch { Issue.record("Fuzz/corpus/\(target)/\(name): \(error)") }
    }
  }

  #if GUARD_SWITCHES
  /// The target "server" is no good if it does not notice a server without its guards.
  @Test(arguments: [
    ("overlapping-writes", GuardSwitches(without: .rangeLock)),
    ("failed-sync-stays-failed", GuardSwitches(without: .syncErrorLatch)),
  ])
  func aServerWithoutAGuardIsFound(name: String, guards: GuardSwitches) throws {
    let bytes = try #require(try Self.inputs("server").first { $0.name == name }?.bytes)
    try fuzzServer(bytes, guards: .allStand)
    #expect(throws: Finding.self) { try fuzzServer(bytes, guards: guards) }
  }
  #endif

  /// What the fuzzer does with them, a little: from one printed seed.
  @Test(arguments: fuzzTargets.map(\.name)) func mutatedInputsAreWithstood(target: String) throws {
    let run = try #require(fuzzTargets.first { $0.name == target }?.run)
    let inputs = try Self.inputs(target).map(\.bytes)
    let seed = UInt64.random(in: 1...(.max))
    print("\(target) seed \(seed)")
    var random = SeededGenerator(seed: seed)
    func draw(_ limit: Int) -> Int { Int.random(in: 0..<max(limit, 1), using: &random) }
    for round in 0..<200 {
      var bytes = inputs[draw(inputs.count)]
      for _ in 0...draw(4) where !bytes.isEmpty {
        switch draw(4) {
        case 0: bytes[draw(bytes.count)] = UInt8(truncatingIfNeeded: draw(256))
        case 1:
          bytes.insert(
            contentsOf: (0...draw(20)).map { _ in UInt8(truncatingIfNeeded: draw(256)) }, at: draw(bytes.count))
        case 2: bytes.removeSubrange(draw(bytes.count)...)
        default: bytes += inputs[draw(inputs.count)]
        }
      }
      do { try run(Array(bytes.prefix(4096))) } catch {
        Issue.record("\(target), seed \(seed), round \(round): \(error)")
      }
    }
  }
}
