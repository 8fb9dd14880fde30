// Decides whether a history is possible when every request is atomic: any two overlapping ones behave as if one came
// entirely before the other.

extension History {
  /// What makes this history impossible, or nil if nothing was found.
  ///
  /// Sound: each conclusion is forced, so a history of atomic requests is never accused. What is assumed of requests:
  ///
  /// - WRITE and WRITE_ZEROES that succeeded: all of their blocks change at one moment between invocation and completion.
  /// - READ that succeeded: all of its blocks are looked at in one such moment.
  /// - TRIM, and anything that failed or was not answered: each block may change or not, each at a moment of its own; no later
  ///   than the reply, if there was one.
  ///
  /// From these, for a READ that found in a block what WRITE v put there, and for any other certain change x of that block:
  /// v came before the READ, and x came before v or after the READ. For a READ that found zeroes in a block that a WRITE
  /// before it covers: something that zeroes came between. One of the two being certainly wrong makes the other certain,
  /// and so on until nothing new follows; a contradiction is a violation. (Where both stay open, neither is tried out: some
  /// impossible histories pass.)
  package func firstViolation() -> Violation? {
    do throws(Violation) {
      var judge = try Judge(operations)
      try judge.run()
      return nil
    } catch {
      return error
    }
  }
}

struct Judge {
  /// In order of invocation; everything else speaks of indices in here.
  let operations: [Operation]
  private(set) var order: Precedence
  private var indexOfID: [UInt64: Int] = [:]
  /// Of all answered requests up to an index: the latest completion. Ends a look into the past.
  private var completedMax: [UInt64] = []
  private var unanswered: [Int] = []
  private var open: [Claim] = []

  /// Something a READ found, about another request, that is not settled yet.
  private enum Claim {
    /// The READ found a block of WRITE `source`; `other` changes that block too.
    case found(source: Int, other: Int, reader: Int)
    /// The READ found zeroes in these blocks of `write`.
    case zero(write: Int, blocks: Range<Int>, reader: Int)
  }

  private enum Outcome {
    case settled
    case learned
    case unchanged
  }

  init(_ unordered: [Operation]) throws(Violation) {
    operations = unordered.sorted { $0.invoked < $1.invoked }
    order = Precedence(
      invoked: operations.map(\.invoked), completed: operations.map { $0.completed ?? .max })
    completedMax.reserveCapacity(operations.count)
    for (index, operation) in operations.enumerated() {
      precondition(operation.id != 0, "ids are not zero")
      precondition(indexOfID.updateValue(index, forKey: operation.id) == nil, "ids are unique")
      precondition(!operation.blocks.isEmpty, "a request has a block at least")
      completedMax.append(max(completedMax.last ?? 0, operation.completed ?? 0))
      if operation.completed == nil { unanswered.append(index) }
    }
  }

  mutating func run() throws(Violation) {
    var settled = SettledBlocks(operations)
    for reader in operations.indices where isAnsweredRead(reader) {
      settled.advance(to: operations[reader].invoked)
      try collect(reader, settled)
    }
    var isMoving = true
    while isMoving {
      isMoving = false
      var rest: [Claim] = []
      for claim in open {
        switch try weigh(claim) {
        case .settled: isMoving = true
        case .learned:
          isMoving = true
          rest.append(claim)
        case .unchanged: rest.append(claim)
        }
      }
      open = rest
    }
  }

  private func isAnsweredRead(_ index: Int) -> Bool {
    operations[index].kind == .read && operations[index].succeeded && operations[index].completed != nil
  }

  /// Changes all of its blocks, and at one moment.
  private func isCertainChange(_ index: Int) -> Bool {
    let operation = operations[index]
    guard operation.succeeded, operation.completed != nil else { return false }
    switch operation.kind {
    case .write, .writeZeroes: return true
    case .read, .trim: return false
    }
  }

  // MARK: - What a READ claims

  private mutating func collect(_ reader: Int, _ settled: SettledBlocks) throws(Violation) {
    let read = operations[reader]
    var next = read.blocks.lowerBound
    var pairs: Set<Int> = []
    for run in read.seen {
      precondition(run.blocks.lowerBound == next, "the runs of a READ follow each other")
      next = run.blocks.upperBound
      switch run.content {
      case .broken:
        throw violation(reader, "found neither zeroes nor a whole block of its place in \(run.blocks)", [])
      case .zero:
        try collectZero(reader, run.blocks, since: settled.since(run.blocks))
      case .written(let id):
        let source = try checkedSource(id, of: run, reader)
        if isCertainChange(source) { _ = try learn(source, before: reader, reader, [source]) }
        for other in others(overlapping: run.blocks, from: operations[source].invoked, reader: reader)
        where other != source && isCertainChange(other) && pairs.insert(source * operations.count + other).inserted {
          try consider(.found(source: source, other: other, reader: reader))
        }
      }
    }
    precondition(next == read.blocks.upperBound, "the runs of a READ cover it")
  }

  private mutating func collectZero(_ reader: Int, _ blocks: Range<Int>, since: UInt64) throws(Violation) {
    for write in others(overlapping: blocks, from: since, reader: reader)
    where operations[write].kind == .write && isCertainChange(write) {
      let common = operations[write].blocks.clamped(to: blocks)
      try consider(.zero(write: write, blocks: common, reader: reader))
    }
  }

  private func checkedSource(_ id: UInt64, of run: Run, _ reader: Int) throws(Violation) -> Int {
    guard let source = indexOfID[id], operations[source].kind == .write else {
      throw violation(reader, "found in blocks \(run.blocks) the stamp \(id), which no WRITE has", [])
    }
    let write = operations[source]
    if run.blocks.clamped(to: write.blocks) != run.blocks {
      throw violation(reader, "found WRITE \(id) in \(run.blocks), outside of its blocks \(write.blocks)", [source])
    }
    if order.latest[reader] < write.invoked {
      throw violation(reader, "found WRITE \(id), which was not sent yet", [source])
    }
    return source
  }

  /// Requests that overlap `blocks`, were sent before the READ ended, and had not ended at event `from`.
  private func others(overlapping blocks: Range<Int>, from: UInt64, reader: Int) -> [Int] {
    let end = operations[reader].completed ?? .max
    var found: [Int] = []
    var index = reader + 1
    while index < operations.count, operations[index].invoked < end {
      if operations[index].completed != nil, operations[index].blocks.overlaps(blocks) { found.append(index) }
      index += 1
    }
    index = reader - 1
    while index >= 0, completedMax[index] > from {
      if let completed = operations[index].completed, completed > from, operations[index].blocks.overlaps(blocks) {
        found.append(index)
      }
      index -= 1
    }
    for index in unanswered where operations[index].invoked < end && operations[index].blocks.overlaps(blocks) {
      found.append(index)
    }
    return found
  }

  // MARK: - What follows

  private mutating func consider(_ claim: Claim) throws(Violation) {
    switch try weigh(claim) {
    case .settled: break
    case .learned, .unchanged: open.append(claim)
    }
  }

  private mutating func weigh(_ claim: Claim) throws(Violation) -> Outcome {
    switch claim {
    case .found(let source, let other, let reader):
      guard isCertainChange(source) else { return try weighUncertain(source, other, reader) }
      if order.isKnown(other, before: source) || order.isKnown(reader, before: other) { return .settled }
      if order.isKnown(source, before: other) {
        _ = try learn(reader, before: other, reader, [source, other])
        return .settled
      }
      if order.isKnown(other, before: reader) {
        _ = try learn(other, before: source, reader, [source, other])
        return .settled
      }
      return .unchanged
    case .zero(let write, let blocks, let reader):
      if order.isKnown(reader, before: write) { return .settled }
      guard order.isKnown(write, before: reader) else { return .unchanged }
      return try weighZero(write, blocks, reader)
    }
  }

  /// The source failed or was not answered: its blocks changed at moments of their own, the last before its reply.
  private func weighUncertain(_ source: Int, _ other: Int, _ reader: Int) throws(Violation) -> Outcome {
    if order.isKnown(reader, before: other) { return .settled }
    guard order.isKnown(other, before: reader) else { return .unchanged }
    if order.latest[source] < order.earliest[other] {
      throw violation(
        reader, "found WRITE \(operations[source].id), which a later change had replaced", [source, other])
    }
    return .settled
  }

  /// `write` came before the READ, which found zeroes: in each block, something that zeroes came between.
  private mutating func weighZero(_ write: Int, _ blocks: Range<Int>, _ reader: Int) throws(Violation) -> Outcome {
    let between = others(overlapping: blocks, from: operations[write].invoked, reader: reader)
      .filter { mayZero($0, after: write, before: reader) }
    var edges = [blocks.lowerBound, blocks.upperBound]
    for zeroer in between {
      let common = operations[zeroer].blocks.clamped(to: blocks)
      edges += [common.lowerBound, common.upperBound]
    }
    edges.sort()
    var outcome = Outcome.settled
    for (start, end) in zip(edges, edges.dropFirst()) where start < end {
      let able = between.filter { operations[$0].blocks.contains(start) }
      guard let only = able.first else {
        throw violation(reader, "found zeroes in \(start..<end), which nothing zeroed after it was written", [write])
      }
      if able.contains(where: { isBetweenForGood($0, after: write, before: reader) }) { continue }
      if able.count > 1 {
        if outcome == .settled { outcome = .unchanged }
      } else if isCertainChange(only) {
        if try learn(write, before: only, reader, [write, only]) { outcome = .learned }
        if try learn(only, before: reader, reader, [write, only]) { outcome = .learned }
      }
    }
    return outcome
  }

  private func mayZero(_ index: Int, after write: Int, before reader: Int) -> Bool {
    switch operations[index].kind {
    case .read, .write: return false
    case .trim, .writeZeroes: break
    }
    if isCertainChange(index) {
      return !order.isKnown(index, before: write) && !order.isKnown(reader, before: index)
    }
    return order.latest[index] > order.earliest[write] && order.earliest[index] < order.latest[reader]
  }

  /// Whether nothing that may still be learned can take this explanation away.
  private func isBetweenForGood(_ index: Int, after write: Int, before reader: Int) -> Bool {
    order.isKnown(write, before: index) && order.isKnown(index, before: reader)
  }

  /// True if it is news.
  private mutating func learn(
    _ one: Int, before other: Int, _ reader: Int, _ involved: [Int]
  ) throws(Violation) -> Bool {
    switch order.learn(one, before: other) {
    case .new: return true
    case .old: return false
    case .impossible:
      let order = "\(name(one)) must come before \(name(other)), and cannot"
      throw violation(reader, "found blocks from before and from after: \(order)", involved)
    }
  }

  private func name(_ index: Int) -> String {
    let operation = operations[index]
    return "\(operation.kind) \(operation.id) of blocks \(operation.blocks)"
  }

  private func violation(_ reader: Int, _ what: String, _ involved: [Int]) -> Violation {
    let names = involved.map(name).joined(separator: ", ")
    return Violation(
      description: "\(name(reader)) \(what)\(names.isEmpty ? "" : " (\(names))")",
      operations: [operations[reader].id] + involved.map { operations[$0].id })
  }
}
