// The judge accuses nobody wrongly, and sees what is torn.

import Oracle
import Testing

@Suite struct JudgeTests {
  private static func write(_ id: UInt64, _ blocks: Range<Int>, _ when: ClosedRange<UInt64>) -> Operation {
    Operation(id: id, kind: .write, blocks: blocks, invoked: when.lowerBound, completed: when.upperBound)
  }

  private static func zero(_ id: UInt64, _ blocks: Range<Int>, _ when: ClosedRange<UInt64>) -> Operation {
    Operation(id: id, kind: .writeZeroes, blocks: blocks, invoked: when.lowerBound, completed: when.upperBound)
  }

  private static func trim(_ id: UInt64, _ blocks: Range<Int>, _ when: ClosedRange<UInt64>) -> Operation {
    Operation(id: id, kind: .trim, blocks: blocks, invoked: when.lowerBound, completed: when.upperBound)
  }

  /// `found` are the ids in block 0 and up; 0 stands for zeroes.
  private static func read(_ id: UInt64, _ when: ClosedRange<UInt64>, _ found: UInt64...) -> Operation {
    let runs = found.enumerated().map {
      Run($0.offset..<($0.offset + 1), $0.element == 0 ? .zero : .written(by: $0.element))
    }
    return Operation(
      id: id, kind: .read, blocks: 0..<found.count, invoked: when.lowerBound, completed: when.upperBound, seen: runs)
  }

  private static func isAccused(_ operations: Operation...) -> Bool { History(operations).firstViolation() != nil }

  // MARK: - Torn

  @Test func halfOfAWriteIsTorn() {
    #expect(Self.isAccused(Self.write(1, 0..<2, 1...8), Self.read(2, 2...7, 1, 0)))
    #expect(Self.isAccused(Self.write(1, 0..<2, 1...2), Self.write(2, 0..<2, 3...8), Self.read(3, 4...7, 2, 1)))
    #expect(!Self.isAccused(Self.write(1, 0..<2, 1...2), Self.write(2, 0..<2, 3...8), Self.read(3, 4...7, 2, 2)))
    #expect(!Self.isAccused(Self.write(1, 0..<2, 1...2), Self.write(2, 0..<2, 3...8), Self.read(3, 4...7, 1, 1)))
  }

  @Test func halvesOfTwoConcurrentWritesAreTorn() {
    #expect(Self.isAccused(Self.write(1, 0..<2, 1...8), Self.write(2, 0..<2, 2...9), Self.read(3, 10...11, 1, 2)))
  }

  @Test func aNewerWriteOfOneBlockExplainsTheOther() {
    #expect(
      !Self.isAccused(
        Self.write(1, 0..<2, 1...2), Self.write(2, 1..<2, 3...8), Self.read(3, 4...7, 1, 2)))
  }

  @Test func aConcurrentTrimExplainsZeroes() {
    #expect(
      !Self.isAccused(Self.write(1, 0..<2, 1...8), Self.trim(2, 1..<2, 2...9), Self.read(3, 3...10, 1, 0)))
    #expect(
      Self.isAccused(Self.trim(2, 1..<2, 1...2), Self.write(1, 0..<2, 3...8), Self.read(3, 4...10, 1, 0)),
      "a trim that ended before the write does not")
  }

  @Test func aTrimMayLeaveAnyOfItsBlocks() {
    #expect(!Self.isAccused(Self.write(1, 0..<3, 1...2), Self.trim(2, 0..<3, 3...4), Self.read(3, 5...6, 1, 0, 1)))
  }

  @Test func halfOfAWriteZeroesIsTorn() {
    #expect(Self.isAccused(Self.write(1, 0..<2, 1...2), Self.zero(2, 0..<2, 3...8), Self.read(3, 4...7, 0, 1)))
    #expect(Self.isAccused(Self.write(1, 0..<2, 1...2), Self.zero(2, 0..<2, 3...4), Self.read(3, 5...7, 0, 1)))
    #expect(!Self.isAccused(Self.write(1, 0..<2, 1...2), Self.zero(2, 0..<2, 3...8), Self.read(3, 4...7, 0, 0)))
  }

  @Test func twoReadsAgreeOnTheOrderOfTwoWrites() {
    #expect(
      Self.isAccused(
        Self.write(1, 0..<1, 1...20), Self.write(2, 0..<1, 2...21), Self.read(3, 3...4, 1), Self.read(4, 5...6, 2),
        Self.read(5, 7...8, 1)))
  }

  // MARK: - Stale, early, broken

  @Test func anOverwrittenValueIsStale() {
    #expect(Self.isAccused(Self.write(1, 0..<1, 1...2), Self.write(2, 0..<1, 3...4), Self.read(3, 5...6, 1)))
    #expect(!Self.isAccused(Self.write(1, 0..<1, 1...2), Self.write(2, 0..<1, 3...6), Self.read(3, 5...7, 1)))
  }

  @Test func aLostWriteIsStale() {
    #expect(Self.isAccused(Self.write(1, 0..<1, 1...2), Self.read(2, 3...4, 0)))
  }

  @Test func aZeroedBlockStaysZeroed() {
    #expect(Self.isAccused(Self.write(1, 0..<1, 1...2), Self.zero(2, 0..<1, 3...4), Self.read(3, 5...6, 1)))
  }

  @Test func whatWasTrimmedAwayDoesNotComeBack() {
    #expect(
      Self.isAccused(
        Self.write(1, 0..<1, 1...2), Self.trim(2, 0..<1, 3...4), Self.read(3, 5...6, 0), Self.read(4, 7...8, 1))
    )
    #expect(
      !Self.isAccused(
        Self.write(1, 0..<1, 1...2), Self.trim(2, 0..<1, 3...4), Self.read(3, 5...6, 1), Self.read(4, 7...8, 0)))
    #expect(
      !Self.isAccused(
        Self.write(1, 0..<1, 1...2), Self.trim(2, 0..<1, 3...4), Self.read(3, 5...8, 0), Self.read(4, 6...7, 1)),
      "the two READs overlap")
    #expect(!Self.isAccused(Self.write(1, 0..<1, 2...4), Self.read(3, 1...3, 0), Self.read(4, 5...6, 1)))
  }

  @Test func whatAnUnansweredWriteReplacedDoesNotComeBack() {
    let unanswered = Operation(id: 2, kind: .write, blocks: 0..<1, invoked: 3, completed: nil)
    let replaced = [Self.write(1, 0..<1, 1...2), unanswered, Self.read(3, 4...5, 2)]
    #expect(History(replaced + [Self.read(4, 6...7, 1)]).firstViolation() != nil)
    #expect(History(replaced + [Self.read(4, 6...7, 2)]).firstViolation() == nil)
    // Nor does it come back itself, once it has been seen and replaced.
    let gone = [Self.trim(5, 0..<1, 6...7), Self.read(6, 8...9, 0)]
    #expect(History(replaced + gone).firstViolation() == nil)
    #expect(History(replaced + gone + [Self.read(7, 10...11, 2)]).firstViolation() != nil)
    #expect(!Self.isAccused(unanswered, Self.read(6, 8...9, 0), Self.read(7, 10...11, 2)), "it was late")
  }

  @Test func aWriteIsNotSeenBeforeItIsSent() {
    #expect(Self.isAccused(Self.read(1, 1...2, 2), Self.write(2, 0..<1, 3...4)))
  }

  @Test func contentOfNobodyIsNoticed() {
    #expect(Self.isAccused(Self.read(1, 1...2, 77)))
    #expect(Self.isAccused(Self.write(1, 1..<2, 1...2), Self.read(2, 3...4, 1)), "the write was elsewhere")
    let broken = Operation(
      id: 1, kind: .read, blocks: 0..<1, invoked: 1, completed: 2, seen: [Run(0..<1, .broken)])
    #expect(Self.isAccused(broken))
  }

  /// What is cut off leaves halves, never a whole block of another place.
  @Test func aMisplacedBlockIsNeverExcused() {
    let unanswered = Operation(id: 1, kind: .write, blocks: 0..<2, invoked: 1, completed: nil)
    let reader = Operation(
      id: 2, kind: .read, blocks: 0..<1, invoked: 2, completed: 3, seen: [Run(0..<1, .misplaced)])
    #expect(Self.isAccused(unanswered, reader))
  }

  @Test func aFailedWriteMayBeSeenInPart() {
    let failed = Operation(id: 1, kind: .write, blocks: 0..<2, invoked: 1, completed: 2, succeeded: false)
    #expect(!Self.isAccused(failed, Self.read(2, 3...4, 1, 0)))
    #expect(Self.isAccused(failed, Self.write(2, 0..<2, 3...4), Self.read(3, 5...6, 1, 2)), "but not after its reply")
    let unanswered = Operation(id: 1, kind: .write, blocks: 0..<2, invoked: 1, completed: nil)
    #expect(!Self.isAccused(unanswered, Self.write(2, 0..<2, 3...4), Self.read(3, 5...6, 1, 2)))
  }

  @Test func aViolationNamesTheRequests() throws {
    let history = History([Self.write(1, 0..<2, 1...8), Self.read(2, 2...7, 1, 0)])
    let violation = try #require(history.firstViolation())
    #expect(violation.operations == [2, 1])
    #expect(violation.description.contains("read 2 of blocks 0..<2 found zeroes in 1..<2"))
  }

  // MARK: - Against every order, and against servers

  /// Small histories with arbitrary findings: whoever is accused is impossible in every order.
  @Test func accusesOnlyWhatIsImpossibleInEveryOrder() {
    let seed = UInt64.random(in: 0 ... .max)
    print("seed \(seed) of small histories")
    var random = SeededGenerator(seed: seed)
    var impossible = 0
    var accused = 0
    for _ in 0..<3000 {
      let history = Self.smallHistory(&random)
      let isPossible = BruteForce(history, blockCount: 2).isPossible
      let violation = history.firstViolation()
      if isPossible {
        #expect(violation == nil, "seed \(seed), \(history.operations)")
      } else {
        impossible += 1
        if violation != nil { accused += 1 }
      }
    }
    print("accused \(accused) of \(impossible) impossible histories")
    #expect(accused * 100 >= impossible * 94)
  }

  private static func smallHistory(_ random: inout SeededGenerator) -> History {
    let count = Int.random(in: 3...5, using: &random)
    let moments = Array(1...UInt64(2 * count)).shuffled(using: &random)
    let ranges = [0..<1, 1..<2, 0..<2, 0..<2]
    var operations: [Operation] = []
    for index in 0..<count {
      let (one, other) = (moments[2 * index], moments[2 * index + 1])
      let kinds: [Operation.Kind] = [.read, .read, .write, .write, .trim, .writeZeroes]
      let kind = kinds.randomElement(using: &random) ?? .read
      let chance = Int.random(in: 0..<10, using: &random)
      operations.append(
        Operation(
          id: UInt64(index + 1), kind: kind, blocks: ranges.randomElement(using: &random) ?? 0..<2,
          invoked: min(one, other), completed: kind != .read && chance == 0 ? nil : max(one, other),
          succeeded: kind == .read || chance != 1))
    }
    for index in operations.indices where operations[index].kind == .read {
      for block in operations[index].blocks {
        let writes = operations.filter { $0.kind == .write && $0.blocks.contains(block) }
        var content = Run.Content.zero
        if let write = writes.randomElement(using: &random), Int.random(in: 0..<4, using: &random) > 0 {
          content = .written(by: write.id)
        }
        operations[index].seen.append(Run(block..<(block + 1), content))
      }
    }
    return History(operations)
  }

  private static func shape(_ operations: Int) -> Workload.Shape {
    var shape = Workload.Shape()
    shape.operationsPerConnection = operations
    shape.regionBytes = 64 << 10
    shape.lengthBytesMin = 512
    shape.lengthBytesMax = 32 << 10
    return shape
  }

  private static func history(_ execution: SimulatedServer.Execution, seed: UInt64, failurePercent: Int = 0) -> History
  {
    let workload = Workload(seed: seed, shape: shape(40))
    var server = SimulatedServer(execution, regionBlocks: 128, seed: seed, failurePercent: failurePercent)
    return server.run(workload, inFlightMax: 2)
  }

  @Test func aServerOfAtomicRequestsIsNeverAccused() {
    let first = UInt64.random(in: 0 ... .max / 2)
    print("seeds from \(first)")
    for seed in first..<(first + 12) {
      for failurePercent in [0, 10] {
        let violation = Self.history(.whole, seed: seed, failurePercent: failurePercent).firstViolation()
        #expect(violation == nil, "seed \(seed), \(failurePercent)% failures")
      }
    }
  }

  @Test(arguments: 1...8) func aServerThatWorksInPiecesIsCaught(_ seed: UInt64) {
    #expect(Self.history(.pieces(blocks: 16), seed: seed).firstViolation() != nil)
  }

  @Test(arguments: 1...4) func aServerThatReadsOldCopiesIsCaught(_ seed: UInt64) {
    #expect(Self.history(.stale(events: 30), seed: seed).firstViolation() != nil)
  }
}
