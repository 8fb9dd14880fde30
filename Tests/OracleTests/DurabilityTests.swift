// What may be left after a crash, and what excuses half a block.

import Oracle
import Testing

@Suite struct DurabilityTests {
  private func write(
    _ id: UInt64, _ blocks: Range<Int>, _ invoked: UInt64, _ completed: UInt64?, isFUA: Bool = false,
    succeeded: Bool = true
  ) -> Operation {
    Operation(
      id: id, kind: .write, blocks: blocks, invoked: invoked, completed: completed, succeeded: succeeded, isFUA: isFUA)
  }

  @Test func whatFUAMadeDurableIsMissed() throws {
    let history = History([write(1, 0..<2, 1, 2, isFUA: true)])
    #expect(try history.firstLoss(found: [.written(by: 1), .written(by: 1)], flushes: []).violation == nil)
    #expect(try history.firstLoss(found: [.written(by: 1), .zero], flushes: []).violation != nil)
    #expect(try history.firstLoss(found: [.written(by: 1), .zero], flushes: []).durable == [1])
  }

  @Test func aFlushCoversWhatWasRepliedToBeforeIt() throws {
    let history = History([write(1, 0..<1, 1, 4)])
    #expect(try history.firstLoss(found: [.zero], flushes: [FlushRecord(invoked: 3)]).violation == nil)
    #expect(try history.firstLoss(found: [.zero], flushes: [FlushRecord(invoked: 5)]).violation != nil)
    let afterFailure = try history.firstLoss(found: [.zero], flushes: [FlushRecord(invoked: 7)], failedSyncs: [6])
    #expect(afterFailure.violation == nil)
  }

  @Test func whatCameAfterADurableWriteMayReplaceIt() throws {
    let history = History([
      write(1, 0..<1, 1, 2), write(2, 0..<1, 3, 4, isFUA: true), write(3, 0..<1, 5, nil),
    ])
    #expect(try history.firstLoss(found: [.written(by: 2)], flushes: []).violation == nil)
    #expect(try history.firstLoss(found: [.written(by: 3)], flushes: []).violation == nil)
    #expect(try history.firstLoss(found: [.broken], flushes: []).violation == nil)
    #expect(try history.firstLoss(found: [.written(by: 1)], flushes: []).violation != nil)
  }

  @Test func halfABlockIsNotExcusedByWhatWasDurable() throws {
    let durable = write(1, 0..<1, 1, 2, isFUA: true)
    #expect(try History([durable]).firstLoss(found: [.broken], flushes: []).violation != nil)
    #expect(try History([durable]).firstLoss(found: [.misplaced], flushes: []).violation != nil)
    let beside = write(2, 0..<1, 1, 4)
    #expect(try History([durable, beside]).firstLoss(found: [.broken], flushes: []).violation == nil)
    #expect(
      try History([durable, beside]).firstLoss(found: [.broken], flushes: [FlushRecord(invoked: 5)]).violation != nil)
  }

  @Test func theOrderOfTwoDurableWritesIsLearnedFromAReader() throws {
    let writes = [write(1, 0..<1, 1, 5, isFUA: true), write(2, 0..<1, 2, 6, isFUA: true)]
    let reader = Operation(
      id: 9, kind: .read, blocks: 0..<1, invoked: 7, completed: 8, seen: [Run(0..<1, .written(by: 2))])
    #expect(try History(writes).firstLoss(found: [.written(by: 1)], flushes: []).violation == nil)
    #expect(try History(writes + [reader]).firstLoss(found: [.written(by: 2)], flushes: []).violation == nil)
    #expect(try History(writes + [reader]).firstLoss(found: [.written(by: 1)], flushes: []).violation != nil)
  }

  @Test func whatADurableWriteReplacedIsNotLookedFor() throws {
    let history = History([
      write(1, 0..<2, 1, 2, isFUA: true), write(2, 0..<2, 3, 4, isFUA: true), write(3, 0..<1, 5, 6),
      Operation(id: 4, kind: .trim, blocks: 2..<3, invoked: 7, completed: 8, isFUA: true),
    ])
    let found: [Run.Content] = [.written(by: 3), .written(by: 2), .zero]
    #expect(try history.firstLoss(found: found, flushes: []).durable == [2])
    #expect(try history.firstLoss(found: found, flushes: []).violation == nil)
  }

  @Test func halfABlockIsExcusedByWhatFailedAndByNothingElse() {
    let reader = Operation(id: 9, kind: .read, blocks: 0..<1, invoked: 20, completed: 21, seen: [Run(0..<1, .broken)])
    let failed = write(1, 0..<1, 1, 2, succeeded: false)
    #expect(History([failed, reader]).firstViolation() == nil)
    #expect(History([write(1, 0..<1, 1, 2), reader]).firstViolation() != nil)
    #expect(History([failed, write(2, 0..<1, 5, 6), reader]).firstViolation() != nil)
  }
}
