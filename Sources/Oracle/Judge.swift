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
  /// impossible histories pass.) Last, each WRITE is done once: what a READ no longer found in a block does not come back.
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

extension Operation {
  /// Changes all of its blocks, and at one moment.
  var isCertainChange: Bool {
    guard succeeded, completed != nil else { return false }
    switch kind {
    case .write, .writeZeroes: return true
    case .read, .trim: return false
    }
  }

  fileprivate var mayZero: Bool {
    switch kind {
    case .trim, .writeZeroes: true
    case .read, .write: false
    }
  }
}

struct Judge {
  /// In order of invocation; everything else speaks of indices in here.
  let operations: [Operation]
  private(set) var order: Precedence
  private var indexOfID: [UInt64: Int] = [:]
  /// WRITE and WRITE_ZEROES that certainly took effect, as a whole.
  private let changes: Timeline
  /// Of those, the WRITEs.
  private let writes: Timeline
  /// Whatever may have zeroed a block.
  private let zeroers: Timeline
  private let isCertain: [Bool]
  private let blocksOf: [Range<Int>]
  private var undecided: [Claim] = []
  /// How much has been learned.
  private var lessons = 0

  /// Something a READ found, about another request, that is not settled yet.
  private enum Claim {
    /// The READ found a block of WRITE `source`; `other` changes that block too.
    case found(source: Int, other: Int, reader: Int)
    /// The READ found zeroes in these blocks of `write`.
    case zero(write: Int, blocks: Range<Int>, reader: Int)
  }

  init(_ unordered: [Operation]) throws(Violation) {
    operations = unordered.sorted { $0.invoked < $1.invoked }
    order = Precedence(
      invoked: operations.map(\.invoked), completed: operations.map { $0.completed ?? .max })
    isCertain = operations.map(\.isCertainChange)
    blocksOf = operations.map(\.blocks)
    changes = Timeline(operations) { $0.isCertainChange }
    writes = Timeline(operations) { $0.isCertainChange && $0.kind == .write }
    zeroers = Timeline(operations) { $0.mayZero }
    for (index, operation) in operations.enumerated() {
      precondition(operation.id != 0, "ids are not zero")
      precondition(indexOfID.updateValue(index, forKey: operation.id) == nil, "ids are unique")
      precondition(!operation.blocks.isEmpty, "a request has a block at least")
    }
  }

  mutating func run() throws(Violation) {
    var settled = SettledBlocks(operations)
    for reader in operations.indices where isAnsweredRead(reader) {
      settled.advance(to: operations[reader].invoked)
      try collect(reader, settled)
    }
    var lessonsBefore = -1
    while lessons != lessonsBefore {
      lessonsBefore = lessons
      var rest: [Claim] = []
      for claim in undecided where try !isSettled(claim) { rest.append(claim) }
      undecided = rest
    }
    try checkReturns()
  }

  private func isAnsweredRead(_ index: Int) -> Bool {
    operations[index].kind == .read && operations[index].succeeded && operations[index].completed != nil
  }

  // MARK: - What a READ claims

  private mutating func collect(_ reader: Int, _ settled: SettledBlocks) throws(Violation) {
    let read = operations[reader]
    let end = read.completed ?? .max
    var next = read.blocks.lowerBound
    var pairs: Set<Int> = []
    for run in read.seen {
      precondition(run.blocks.lowerBound == next, "the runs of a READ follow each other")
      next = run.blocks.upperBound
      switch run.content {
      case .broken:
        for block in run.blocks where !mayBeBroken(block, reader) {
          throw violation(reader, "found neither zeroes nor a whole block in \(run.blocks)", [])
        }
      case .misplaced: throw violation(reader, "found whole blocks of other places in \(run.blocks)", [])
      case .zero:
        try collectZero(reader, run.blocks, since: settled.since(run.blocks))
      case .written(let id):
        let source = try checkedSource(id, of: run, reader)
        if isCertain[source] { try learn(source, before: reader, reader, [source]) }
        for other in changes.requests(on: run.blocks, from: operations[source].invoked, to: end)
        where other != source && pairs.insert(source * operations.count + other).inserted {
          try consider(.found(source: source, other: other, reader: reader))
        }
      }
    }
    precondition(next == read.blocks.upperBound, "the runs of a READ cover it")
  }

  private mutating func collectZero(_ reader: Int, _ blocks: Range<Int>, since: UInt64) throws(Violation) {
    for write in writes.requests(on: blocks, from: since, to: operations[reader].completed ?? .max) {
      let common = blocksOf[write].clamped(to: blocks)
      try consider(.zero(write: write, blocks: common, reader: reader))
    }
  }

  /// Whether something that failed or was not answered may have left half of itself in the block.
  private func mayBeBroken(_ block: Int, _ reader: Int) -> Bool {
    operations.indices.contains { index in
      let operation = operations[index]
      guard operation.kind != .read, !isCertain[index], !(operation.succeeded && operation.completed != nil),
        operation.blocks.contains(block), order.earliest[index] < order.latest[reader]
      else { return false }
      let later = changes.requests(
        on: block..<block + 1, from: order.latest[index], to: operations[reader].completed ?? .max)
      return !later.contains { order.latest[index] < order.earliest[$0] && order.isKnown($0, before: reader) }
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

  // MARK: - What follows

  private mutating func consider(_ claim: Claim) throws(Violation) {
    if try !isSettled(claim) { undecided.append(claim) }
  }

  /// Learns what follows from the claim now. True if nothing more can follow later.
  private mutating func isSettled(_ claim: Claim) throws(Violation) -> Bool {
    switch claim {
    case .found(let source, let other, let reader):
      guard isCertain[source] else { return try isUncertainSettled(source, other, reader) }
      if order.isKnown(other, before: source) || order.isKnown(reader, before: other) { return true }
      if order.isKnown(source, before: other) {
        try learn(reader, before: other, reader, [source, other])
        return true
      }
      if order.isKnown(other, before: reader) {
        try learn(other, before: source, reader, [source, other])
        return true
      }
      return false
    case .zero(let write, let blocks, let reader):
      if order.isKnown(reader, before: write) { return true }
      guard order.isKnown(write, before: reader) else { return false }
      return try isZeroSettled(write, blocks, reader)
    }
  }

  /// The source failed or was not answered: its blocks changed at moments of their own, the last before its reply.
  private func isUncertainSettled(_ source: Int, _ other: Int, _ reader: Int) throws(Violation) -> Bool {
    if order.isKnown(reader, before: other) { return true }
    guard order.isKnown(other, before: reader) else { return false }
    if order.latest[source] < order.earliest[other] {
      throw violation(
        reader, "found WRITE \(operations[source].id), which a later change had replaced", [source, other])
    }
    return true
  }

  /// `write` came before the READ, which found zeroes: in each block, something that zeroes came between.
  private mutating func isZeroSettled(_ write: Int, _ blocks: Range<Int>, _ reader: Int) throws(Violation) -> Bool {
    var between: [Int] = []
    var edges = [blocks.lowerBound, blocks.upperBound]
    let end = operations[reader].completed ?? .max
    for zeroer in zeroers.requests(on: blocks, from: operations[write].invoked, to: end)
    where mayZero(zeroer, after: write, before: reader) {
      let common = blocksOf[zeroer].clamped(to: blocks)
      if common == blocks, isBetweenForGood(zeroer, after: write, before: reader) { return true }
      between.append(zeroer)
      edges += [common.lowerBound, common.upperBound]
    }
    edges.sort()
    var isSettled = true
    for (start, end) in zip(edges, edges.dropFirst()) where start < end {
      let able = between.filter { blocksOf[$0].contains(start) }
      guard let only = able.first else {
        throw violation(reader, "found zeroes in \(start..<end), which nothing zeroed after it was written", [write])
      }
      if able.contains(where: { isBetweenForGood($0, after: write, before: reader) }) { continue }
      if able.count > 1 || !isCertain[only] {
        isSettled = false
      } else {
        try learn(write, before: only, reader, [write, only])
        try learn(only, before: reader, reader, [write, only])
      }
    }
    return isSettled
  }

  private func mayZero(_ index: Int, after write: Int, before reader: Int) -> Bool {
    if isCertain[index] {
      return !order.isKnown(index, before: write) && !order.isKnown(reader, before: index)
    }
    return order.latest[index] > order.earliest[write] && order.earliest[index] < order.latest[reader]
  }

  /// Whether nothing that may still be learned can take this explanation away.
  private func isBetweenForGood(_ index: Int, after write: Int, before reader: Int) -> Bool {
    order.isKnown(write, before: index) && order.isKnown(index, before: reader)
  }

  // MARK: - What comes back

  private func checkReturns() throws(Violation) {
    let readers = operations.indices.filter(isAnsweredRead)
    let ended = readers.sorted { order.latest[$0] < order.latest[$1] }
    let firstSeen = firstSightings(in: readers)
    var sightings = Sightings(blocks: blocksOf.map(\.upperBound).max() ?? 0)
    var next = 0
    for reader in readers.sorted(by: { order.earliest[$0] < order.earliest[$1] }) {
      while next < ended.count, order.latest[ended[next]] < order.earliest[reader] {
        let earlier = ended[next]
        for run in operations[earlier].seen {
          sightings.add(run, reader: earlier, invoked: order.earliest[earlier])
        }
        next += 1
      }
      for run in operations[reader].seen {
        guard case .written(let id) = run.content, let source = indexOfID[id] else { continue }
        for block in run.blocks {
          var done = order.latest[source]
          if !isCertain[source], let seen = firstSeen[UncertainBlock(source: source, block: block)] {
            done = min(done, seen)
          }
          if let other = sightings.reader(of: block, findingOtherThan: run.content, since: done) {
            throw violation(reader, "found WRITE \(id) in block \(block), where it was not any more", [source, other])
          }
        }
      }
    }
  }

  /// When a block of a WRITE that may or may not have taken effect had done so at the latest: somebody has seen it.
  private func firstSightings(in readers: [Int]) -> [UncertainBlock: UInt64] {
    var first: [UncertainBlock: UInt64] = [:]
    for reader in readers {
      for run in operations[reader].seen {
        guard case .written(let id) = run.content, let source = indexOfID[id], !isCertain[source] else { continue }
        for block in run.blocks {
          let key = UncertainBlock(source: source, block: block)
          first[key] = min(first[key] ?? .max, order.latest[reader])
        }
      }
    }
    return first
  }

  private mutating func learn(
    _ one: Int, before other: Int, _ reader: Int, _ involved: [Int]
  ) throws(Violation) {
    switch order.learn(one, before: other) {
    case .new: lessons += 1
    case .old: break
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
