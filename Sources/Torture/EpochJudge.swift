// Judges an epoch: first everything together, which is quick; only when that is impossible, what exactly is.

import Oracle

package struct EpochJudge {
  private let epoch: Epoch
  private var history: EpochHistory
  private let afterKill: Set<UInt64>
  /// Witnesses of one category and epoch.
  private static let findingsMax = 3

  package static func judge(_ epoch: Epoch) -> [Finding] {
    var judge = EpochJudge(epoch)
    return judge.findings()
  }

  private init(_ epoch: Epoch) {
    self.epoch = epoch
    history = EpochHistory(epoch)
    afterKill = Set(epoch.requests.filter(\.isAfterKill).map(\.id))
  }

  private mutating func findings() -> [Finding] {
    var found: [Finding] = []
    for stale in history.stale.prefix(EpochJudge.findingsMax) { found.append(staleFinding(stale)) }
    found += takeTorn()
    guard History(history.operations + history.holes).firstViolation() != nil else { return found }

    let beforeKill = history.operations.filter { !isAfterKill($0) }
    found += perBlock(beforeKill, .linearizability)
    let isRight = !found.contains { $0.category.isPromised }
    let survivors = epoch.killed == nil ? history.operations : acknowledgedOnly(history.operations)
    if isRight, epoch.killed != nil {
      let durable = perBlock(durableOnly(history.operations), .durability)
      found += durable
      if durable.isEmpty { found += perBlock(survivors, .lost) }
    }
    if isRight { found += perBlock(beforeKill + history.holes, .status) }
    if !found.contains(where: { $0.category.isPromised || $0.category == .lost }) {
      found += perBlock(beforeKill + history.holes, .trimmed)
    }
    if !found.contains(where: { $0.category == .linearizability || $0.category == .trimmed }),
      History(beforeKill).firstViolation() != nil
    {
      found.append(finding(.atomicity, beforeKill))
    }
    let rest = epoch.killed == nil ? history.operations + history.holes : survivors
    if found.allSatisfy({ $0.category == .torn }), History(rest).firstViolation() != nil {
      found.append(finding(.atomicity, rest))
    }
    return found
  }

  private func isAfterKill(_ operation: Operation) -> Bool { afterKill.contains(history.requestID(of: operation)) }

  /// Takes torn blocks out of the READs that found them, when something was changing them at the time: what is left is a READ
  /// for each run. Other torn blocks are no matter of overlapping, and stay.
  private mutating func takeTorn() -> [Finding] {
    var found: [Finding] = []
    for read in history.operations where read.seen.contains(where: { $0.content == .broken }) {
      let changes = history.operations.filter { isGoing(on: $0, beside: read) }
      var kept: [Run] = []
      var torn: [Range<Int>] = []
      for run in read.seen {
        guard run.content == .broken else {
          kept.append(run)
          continue
        }
        for block in run.blocks {
          if changes.contains(where: { $0.blocks.contains(block) }) {
            torn.append(block..<block + 1)
          } else {
            kept.append(Run(block..<block + 1, .broken))
          }
        }
      }
      guard !torn.isEmpty else { continue }
      history.operations.removeAll { $0.id == read.id }
      history.operations += history.parts(of: read, kept)
      let neighbours = changes.filter { change in torn.contains { $0.overlaps(change.blocks) } }
      if found.count < EpochJudge.findingsMax {
        found.append(finding(.torn, of: neighbours.suffix(EpochJudge.neighboursMax) + [read]))
      }
    }
    return found
  }

  private static let neighboursMax = 4

  /// A change that had not ended when the READ began, nor begun when that had ended.
  private func isGoing(on change: Operation, beside read: Operation) -> Bool {
    change.kind != .read && history.settledIDs[change.id] == nil && change.invoked < read.completed ?? .max
      && read.invoked < change.completed ?? .max
  }

  /// What is impossible on some blocks alone, at most one finding for the same requests. Only of READs about which the protocol
  /// says something, unless it is the category for the others.
  private func perBlock(_ operations: [Operation], _ category: Category) -> [Finding] {
    var found: [Finding] = []
    var known: Set<[UInt64]> = []
    let projection = Projection(operations)
    for (segment, members) in projection.members().enumerated() {
      var part = projection.history(on: segment, of: members)
      if category != .trimmed {
        let wasTrimmed = projection.blocks(of: segment).contains { epoch.before.isTrimmed($0) }
        let trims = Trims(part, trimmedBefore: wasTrimmed ? epoch.begun : nil)
        part.removeAll { $0.kind == .read && !trims.leavePromised($0) }
      }
      guard History(part).firstViolation() != nil else { continue }
      let finding = finding(category, part)
      let key = finding.witness.map { UInt64(bitPattern: Int64($0.hashOfRequest)) }
      guard known.insert(key).inserted else { continue }
      found.append(finding)
      if found.count == EpochJudge.findingsMax { break }
    }
    return found
  }

  // MARK: - After a kill

  /// Acknowledged changes that no sync covered may be gone after a kill: as if they had failed.
  private mutating func durableOnly(_ operations: [Operation]) -> [Operation] {
    let killed = epoch.killed ?? .max
    let flushes = epoch.requests.filter { $0.verb == .flush && $0.succeeded && ($0.completed ?? .max) < killed }
    let lastFlush = flushes.map(\.invoked).max() ?? 0
    let fua = Set(epoch.requests.filter(\.fua).map(\.id))
    let changes = operations.map { operation in
      guard operation.kind != .read, !fua.contains(operation.id), (operation.completed ?? .max) >= lastFlush,
        history.settledIDs[operation.id] == nil || !epoch.isBeforeDurable
      else { return operation }
      var uncertain = operation
      uncertain.succeeded = false
      return uncertain
    }
    return acknowledgedOnly(changes)
  }

  /// READs from before the kill speak for acknowledged WRITEs only: what else they found may be gone.
  private mutating func acknowledgedOnly(_ operations: [Operation]) -> [Operation] {
    let acknowledged = Set(
      operations.filter { $0.kind == .write && $0.succeeded && $0.completed != nil }.map(\.id))
    var result: [Operation] = []
    for operation in operations {
      guard operation.kind == .read, !isAfterKill(operation) else {
        result.append(operation)
        continue
      }
      let lasting = operation.seen.filter { run in
        if case .written(let id) = run.content { acknowledged.contains(id) } else { false }
      }
      result += history.parts(of: operation, lasting)
    }
    return result
  }

  // MARK: - Words

  private mutating func staleFinding(_ stale: (reader: Request, block: Int, id: UInt64)) -> Finding {
    let now = epoch.before.id(of: stale.block)
    let category = category(ofStale: stale.reader, at: stale.block)
    let place = byteRange(stale.block..<stale.block + 1)
    let held = WitnessLine(
      sent: nil, answered: nil, connection: nil, command: "(content before)", range: place,
      result: now.map { $0 == 0 ? "zeroes" : "WRITE \(name($0))" } ?? "broken")
    return Finding(
      category: category, epoch: epoch.number,
      summary: "a READ found WRITE \(name(stale.id)) at byte \(place.lowerBound), which had been replaced before",
      witness: [held, line(stale.reader)])
  }

  private mutating func category(ofStale reader: Request, at block: Int) -> Category {
    var changes = history.operations.filter { $0.kind != .read && $0.blocks.contains(block) }
    if reader.isAfterKill { changes = durableOnly(changes) }
    let trims = Trims(changes, trimmedBefore: epoch.before.isTrimmed(block) ? epoch.begun : nil)
    let read = Operation(
      id: reader.id, kind: .read, blocks: reader.blocks, invoked: reader.invoked, completed: reader.completed)
    guard trims.leavePromised(read) else { return .trimmed }
    guard reader.isAfterKill else { return .linearizability }
    return epoch.isBeforeDurable ? .durability : .lost
  }

  private func finding(_ category: Category, _ operations: [Operation]) -> Finding {
    let ids = Set(Minimizer.witness(of: operations))
    return finding(category, of: operations.filter { ids.contains($0.id) })
  }

  private func finding(_ category: Category, of parts: [Operation]) -> Finding {
    let requests = Dictionary(epoch.requests.map { ($0.id, $0) }, uniquingKeysWith: { one, _ in one })
    var lines: [WitnessLine] = []
    var shown: Set<UInt64> = []
    for part in parts.sorted(by: { $0.invoked < $1.invoked }) {
      if let settled = history.settledIDs[part.id] {
        let own = history.operations.first { $0.id == part.id }
        lines.append(
          WitnessLine(
            sent: nil, answered: nil, connection: nil, command: "(content before)",
            range: byteRange(own?.blocks ?? part.blocks), result: "WRITE \(name(settled))"))
      } else if let request = requests[history.requestID(of: part)], shown.insert(request.id).inserted {
        lines.append(line(request))
      }
    }
    return Finding(category: category, epoch: epoch.number, summary: summary(category), witness: lines)
  }

  private func summary(_ category: Category) -> String {
    switch category {
    case .linearizability: "no order of these requests explains what was read from one block"
    case .status: "data that was acknowledged, and that nothing had zeroed, was said to read as zeroes"
    case .durability: "a change that was acknowledged and synced is gone after the kill"
    case .lost: "a change that was acknowledged, and not synced, is gone after the kill"
    case .trimmed: "under a TRIM, a block held something else than it had held or zeroes, or changed again"
    case .torn: "a block of 512 bytes is neither as it was before nor as it was afterwards"
    case .atomicity: "each block alone is right, but no order of whole requests explains what was read"
    }
  }

  private func line(_ request: Request) -> WitnessLine {
    let flags = (request.fua ? " FUA" : "") + (request.noHole ? " NO_HOLE" : "")
    let command = request.verb == .write ? "WRITE \(name(request.id))" : request.verb.rawValue.uppercased()
    return WitnessLine(
      sent: Double(request.sentAt) / 1e6,
      answered: request.completed == nil ? nil : Double(request.answeredAt) / 1e6,
      connection: request.connection < 0 ? nil : request.connection, command: command + flags,
      range: byteRange(request.blocks),
      result: result(of: request))
  }

  private func result(of request: Request) -> String {
    guard request.completed != nil else { return "not answered" }
    guard request.errno == 0 else { return "errno \(request.errno)" }
    switch request.verb {
    case .write, .trim, .zero, .flush: return "ok"
    case .status: return limited(request.holes.map { "zeroes \(text($0))" })
    case .read:
      return limited(
        request.seen.map { run in
          switch run.content {
          case .zero: "\(text(run.blocks)) zeroes"
          case .written(let id): "\(text(run.blocks)) by \(name(id))"
          case .broken: "\(text(run.blocks)) torn"
          case .misplaced: "\(text(run.blocks)) blocks of other places"
          }
        })
    }
  }

  private func limited(_ parts: [String]) -> String {
    parts.count <= 6 ? parts.joined(separator: ", ") : parts.prefix(6).joined(separator: ", ") + ", …"
  }

  /// Without the tag of the run.
  private func name(_ id: UInt64) -> String { "#\(id & (1 << Planner.countBits - 1))" }

  private func byteRange(_ blocks: Range<Int>) -> Range<UInt64> {
    let size = UInt64(BlockStamp.blockBytes)
    return UInt64(blocks.lowerBound) * size..<UInt64(blocks.upperBound) * size
  }

  private func text(_ blocks: Range<Int>) -> String {
    let bytes = byteRange(blocks)
    return "\(bytes.lowerBound)..<\(bytes.upperBound)"
  }
}

extension WitnessLine {
  fileprivate var hashOfRequest: Int {
    var hasher = Hasher()
    hasher.combine(sent)
    hasher.combine(command)
    hasher.combine(range)
    return hasher.finalize()
  }
}
