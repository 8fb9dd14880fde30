// The known faults of block servers, each as a scenario that provokes it.

import Glibc
import Oracle
import Torture

struct Scenario: Sendable {
  /// What it may use.
  struct Context {
    var uri: String
    var seed: UInt64
    /// Preloaded into the server, when the tool starts it.
    var faults: Faults?
    /// What the protocol does not promise counts, too.
    var isStrict = false
  }

  var name: String
  /// The invariant of Holdfast that it is about (ARCHITECTURE.md, "Guards").
  var invariant: String
  /// What went wrong once, and where.
  var story: String
  var needsFaults = false
  /// What it does to a server stays: each run wants a new one.
  var needsNewServer = false
  /// Nil: it held. Throws `TortureFailure` when a step that the verdict rests on failed.
  var run: @Sendable (Context) throws -> Finding?

  static let all: [Scenario] = [
    movingOffset, shortWrite, staleLayout, punchedReply, overtakenWrite, deadConnection, failedSync, longZeroes,
    farTrim,
  ]
}

extension Scenario {
  /// A short run of the usual load in another shape.
  static func load(
    _ context: Context, requests: Int, regionBytes: Int, lengths: ClosedRange<Int>, mix: [Verb: Int]
  ) throws -> Finding? {
    var settings = Settings(uri: context.uri, seed: context.seed)
    settings.operations = requests
    settings.isStrict = context.isStrict
    settings.isQuiet = true
    settings.regionBytes = regionBytes
    settings.shape.mix = Mix(mix)
    settings.shape.lengthBytesMin = lengths.lowerBound
    settings.shape.lengthBytesMax = lengths.upperBound
    settings.shape.longEvery = 0
    let verdict = try TortureRun(settings).execute()
    if verdict.word == .notJudged { throw TortureFailure(verdict.reason ?? "it was not judged") }
    return verdict.findings.first { $0.category.isPromised } ?? verdict.findings.first
  }

  /// Two connections that see the same.
  static func requireSeveralConnections(_ handle: NBDHandle) throws {
    guard try handle.advertised().multiConnection else {
      throw TortureFailure("the server does not offer several connections (CAN_MULTI_CONN); this needs two")
    }
  }

  /// A pattern that tells its place, and is never zero.
  static func pattern(_ generation: UInt64, at offset: UInt64, _ count: Int) -> [UInt8] {
    let first = Int(offset) / BlockStamp.blockBytes
    return BlockStamp.payload(id: generation, blocks: first..<first + count / BlockStamp.blockBytes)
  }

  static func runs(_ bytes: [UInt8], at offset: UInt64) -> [Run] {
    BlockStamp.runs(in: bytes, first: Int(offset) / BlockStamp.blockBytes)
  }

  static func text(_ runs: [Run]) -> String {
    let size = BlockStamp.blockBytes
    let parts = runs.map { run in
      let place = "\(run.blocks.lowerBound * size)..<\(run.blocks.upperBound * size)"
      return switch run.content {
      case .zero: "\(place) zeroes"
      case .written(let id): "\(place) by #\(id)"
      case .broken: "\(place) torn"
      case .misplaced: "\(place) of another place"
      }
    }
    return parts.count <= 6 ? parts.joined(separator: ", ") : parts.prefix(6).joined(separator: ", ") + ", …"
  }

  static func require(_ handle: NBDHandle, bytes: UInt64) throws {
    let size = try handle.advertised().sizeBytes
    guard size >= bytes else { throw TortureFailure("the export has \(size) bytes; this needs \(bytes)") }
  }
}

/// Writes down what was sent, with times, for the witness.
final class Diary {
  private let start = monotonicNanoseconds()
  private(set) var lines: [WitnessLine] = []

  var now: Double { Double(monotonicNanoseconds() - start) / 1e6 }

  /// - Parameter body: sends the request and says what came of it. What it throws ends the scenario: the verdict rests on it.
  func note(
    _ connection: Int, _ command: String, _ offset: UInt64, _ count: Int, _ body: () throws -> String
  ) throws {
    let sent = now
    let result = try body()
    add(sent: sent, answered: now, connection, command, offset, count, result)
  }

  /// The same for a request that the server may answer with an error: that is a result here.
  /// - Returns: whether it succeeded.
  func attempt(
    _ connection: Int, _ command: String, _ offset: UInt64, _ count: Int, _ body: () throws -> Void
  ) throws -> Bool {
    let sent = now
    do {
      try body()
      add(sent: sent, answered: now, connection, command, offset, count, "ok")
      return true
    } catch let failure as TortureFailure where failure.isAnswer {
      add(sent: sent, answered: now, connection, command, offset, count, "error: \(failure)")
      return false
    }
  }

  func add(
    sent: Double, answered: Double?, _ connection: Int, _ command: String, _ offset: UInt64, _ count: Int,
    _ result: String
  ) {
    lines.append(
      WitnessLine(
        sent: sent, answered: answered, connection: connection, command: command,
        range: offset..<offset + UInt64(count), result: result))
  }

  func finding(_ category: Torture.Category, _ summary: String) -> Finding {
    Finding(category: category, epoch: 0, summary: summary, witness: lines.sorted { ($0.sent ?? 0) < ($1.sent ?? 0) })
  }
}
