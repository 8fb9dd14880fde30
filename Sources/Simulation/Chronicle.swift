// The history of a seed as the oracle wants it. An age ends when power is cut: what is left then is judged for durability,
// and is what the next age begins with.

import NBDProtocol
import Oracle

struct Chronicle {
  /// When the server knew that a connection was gone. What was not answered by then takes effect by then: it keeps its locks,
  /// so whatever is sent later finds it done or not, but never undone (I6).
  var deaths: [Int: UInt64] = [:]
  /// Of this age.
  var syncFailures: [UInt64] = []
  private let blocks: Int
  private var ageStart = 0
  /// What the age began with, as requests of their own.
  private var initial: [Operation] = []
  /// For each block, which of these it is, and what stamp it has.
  private var initialIDs: [UInt64]
  private var initialStamps: [UInt64]
  private var nextInitialID = Chronicle.firstInitialID
  /// Above the ids of all requests of a seed.
  private static let firstInitialID: UInt64 = 1 << 40

  init(blocks: Int) {
    self.blocks = blocks
    initialIDs = [UInt64](repeating: 0, count: blocks)
    initialStamps = initialIDs
  }

  /// The process ends here: what was not answered was done by now, or never will be.
  mutating func fence(_ records: [Record], at now: UInt64) {
    for record in records[ageStart...] where record.completed == nil && deaths[record.connection] == nil {
      deaths[record.connection] = now
    }
  }

  /// Power was cut and is back.
  /// - Returns: how many changes of this age were durable, and were looked for.
  mutating func endAge(
    _ records: inout [Record], content: [UInt8], losesPower: Bool, at now: UInt64
  ) throws(Finding) -> Int {
    fence(records, at: now)
    let history = history(records)
    let found = runs(of: content)
    let flushes = records[ageStart...].filter { $0.command == .flush && $0.succeeded }
      .map { FlushRecord(invoked: $0.invoked) }
    let judgement: (violation: Violation?, durable: Set<UInt64>)
    do throws(Violation) {
      judgement = try history.firstLoss(
        found: found.flatMap { run in run.blocks.map { _ in run.content } }, flushes: flushes,
        failedSyncs: syncFailures)
    } catch {
      throw Finding(rule: "atomicity", what: error.description)
    }
    if let loss = judgement.violation { throw Finding(rule: "durability", what: loss.description) }
    begin(BlockStamp.runs(in: content, first: 0), records.count, at: now)
    return judgement.durable.count { $0 < Chronicle.firstInitialID }
  }

  /// All has come to rest: what is there now is one READ more.
  mutating func conclude(_ records: inout [Record], content: [UInt8], at now: UInt64) throws(Finding) {
    fence(records, at: now)
    var history = history(records)
    history.operations.append(
      Operation(
        id: nextInitialID, kind: .read, blocks: 0..<blocks, invoked: now + 1, completed: now + 2,
        seen: runs(of: content)))
    if let violation = history.firstViolation() { throw Finding(rule: "atomicity", what: violation.description) }
  }

  private mutating func begin(_ runs: [Run], _ firstRecord: Int, at now: UInt64) {
    ageStart = firstRecord
    syncFailures = []
    initial = []
    for block in 0..<blocks {
      initialIDs[block] = 0
      initialStamps[block] = 0
    }
    for run in runs {
      switch run.content {
      case .zero: break
      case .broken, .misplaced:
        for block in run.blocks { add(block..<block + 1, stamp: 0, isWhole: false, at: now) }
      case .written(let stamp): add(run.blocks, stamp: stamp, isWhole: true, at: now)
      }
    }
  }

  private mutating func add(_ blocks: Range<Int>, stamp: UInt64, isWhole: Bool, at now: UInt64) {
    initial.append(
      Operation(
        id: nextInitialID, kind: .write, blocks: blocks, invoked: now, completed: now, succeeded: isWhole, isFUA: true))
    for block in blocks {
      initialIDs[block] = nextInitialID
      initialStamps[block] = stamp
    }
    nextInitialID += 1
  }

  // MARK: Records as operations

  private func history(_ records: [Record]) -> History {
    var operations = initial
    for record in records[ageStart...] where record.length > 0 && record.refusal == nil {
      if record.command == .blockStatus {
        operations += statusReads(record)
      } else if let operation = operation(record) {
        operations.append(operation)
      }
    }
    return History(operations)
  }

  private func operation(_ record: Record) -> Operation? {
    let first = Int(record.offset) / BlockStamp.blockBytes
    let range = first..<first + Int(record.length) / BlockStamp.blockBytes
    let kind: Operation.Kind
    var seen: [Run] = []
    switch record.command {
    case .read:
      guard record.succeeded else { return nil }
      kind = .read
      seen = translated(BlockStamp.runs(in: record.data, first: first))
    case .write: kind = .write
    case .trim: kind = .trim
    case .writeZeroes:
      // A refused FAST_ZERO has changed nothing.
      if record.error == .notSupported { return nil }
      kind = .writeZeroes
    case .flush, .cache, .blockStatus, .disconnect: return nil
    }
    return Operation(
      id: record.id, kind: kind, blocks: range, invoked: record.invoked,
      completed: record.completed ?? deaths[record.connection], succeeded: record.succeeded, seen: seen,
      isFUA: record.flags.contains(.fua))
  }

  /// Each extent that a status calls zero is a READ that saw zeroes; of the others it says nothing.
  private func statusReads(_ record: Record) -> [Operation] {
    guard record.succeeded else { return [] }
    let unit = UInt64(BlockStamp.blockBytes)
    var reads: [Operation] = []
    for zeroes in record.zeroes {
      let blocks = Int((zeroes.lowerBound + unit - 1) / unit)..<Int(zeroes.upperBound / unit)
      guard !blocks.isEmpty else { continue }
      reads.append(
        Operation(
          id: record.id | UInt64(reads.count + 1) << 44, kind: .read, blocks: blocks, invoked: record.invoked,
          completed: record.completed, seen: [Run(blocks, .zero)]))
    }
    return reads
  }

  private func runs(of content: [UInt8]) -> [Run] { translated(BlockStamp.runs(in: content, first: 0)) }

  /// Stamps of an earlier age are what this one began with.
  private func translated(_ runs: [Run]) -> [Run] {
    guard ageStart > 0 else { return runs }
    var result: [Run] = []
    for run in runs {
      guard case .written(let stamp) = run.content, stamp <= UInt64(ageStart) else {
        result.append(run)
        continue
      }
      for block in run.blocks where initialStamps[block] == stamp {
        result.append(Run(block..<block + 1, .written(by: initialIDs[block])))
      }
      for block in run.blocks where initialStamps[block] != stamp { result.append(Run(block..<block + 1, run.content)) }
    }
    result.sort { $0.blocks.lowerBound < $1.blocks.lowerBound }
    return merged(result)
  }

  private func merged(_ runs: [Run]) -> [Run] {
    var merged: [Run] = []
    for run in runs {
      if let last = merged.last, last.content == run.content {
        merged[merged.count - 1].blocks = last.blocks.lowerBound..<run.blocks.upperBound
      } else {
        merged.append(run)
      }
    }
    return merged
  }
}
