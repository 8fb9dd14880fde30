// What an epoch is accused of, and what it is not. Histories are written by hand: a few requests on a few blocks.

import Oracle
import Testing

@testable import Torture

/// Events are counted by the order of calls: `send`, `answer`.
private struct Script {
  private(set) var requests: [Request] = []
  private var event: UInt64 = 10

  mutating func send(_ id: UInt64, _ verb: Verb, _ blocks: Range<Int>, fua: Bool = false, isAfterKill: Bool = false) {
    event += 1
    var request = Request(id: id, verb: verb, blocks: blocks, connection: Int(id))
    request.invoked = event
    request.sentAt = Int64(event) * 1000
    request.fua = fua
    request.isAfterKill = isAfterKill
    requests.append(request)
  }

  mutating func answer(_ id: UInt64, seen: [Run] = [], holes: [Range<Int>] = [], errno: Int32 = 0) {
    event += 1
    guard let index = requests.firstIndex(where: { $0.id == id }) else { return }
    requests[index].completed = event
    requests[index].answeredAt = Int64(event) * 1000
    requests[index].seen = seen
    requests[index].holes = holes
    requests[index].errno = errno
  }

  /// Sent and answered before the next one.
  mutating func make(_ id: UInt64, _ verb: Verb, _ blocks: Range<Int>, seen: [Run] = [], fua: Bool = false) {
    send(id, verb, blocks, fua: fua)
    answer(id, seen: seen)
  }

  mutating func readAfterKill(_ id: UInt64, _ blocks: Range<Int>, seen: [Run]) {
    send(id, .read, blocks, isAfterKill: true)
    answer(id, seen: seen)
  }

  mutating func kill() -> UInt64 {
    event += 1
    return event
  }

  func epoch(before: [Run] = [], trimmed: Range<Int> = 0..<0, killed: UInt64? = nil) -> Epoch {
    var settled = Settled(blocks: 16)
    for run in before { settled.set(run) }
    settled.setTrimmed((0..<16).map { trimmed.contains($0) })
    var epoch = Epoch(number: 1, before: settled, begun: 1, requests: requests)
    epoch.killed = killed
    return epoch
  }
}

private func categories(_ epoch: Epoch) -> [Torture.Category] { EpochJudge.judge(epoch).map(\.category) }

@Suite struct EpochJudgeTests {
  @Test func whatIsRightIsNotAccused() {
    var script = Script()
    script.make(1, .write, 0..<8)
    script.send(2, .write, 4..<12)
    script.send(3, .read, 0..<12)
    script.answer(3, seen: [Run(0..<4, .written(by: 1)), Run(4..<12, .written(by: 2))])
    script.answer(2)
    script.make(4, .trim, 0..<2)
    script.make(5, .read, 0..<2, seen: [Run(0..<1, .zero), Run(1..<2, .written(by: 1))])
    #expect(categories(script.epoch()).isEmpty)
  }

  @Test func settledContentIsKnown() {
    var script = Script()
    script.make(9, .write, 2..<3)
    script.make(
      10, .read, 0..<4,
      seen: [
        Run(0..<2, .written(by: 1)), Run(2..<3, .written(by: 9)), Run(3..<4, .written(by: 1)),
      ])
    #expect(categories(script.epoch(before: [Run(0..<8, .written(by: 1))])).isEmpty)
  }

  @Test func contentFromBeforeTheSettledIsStale() {
    var script = Script()
    script.make(10, .read, 0..<4, seen: [Run(0..<4, .written(by: 1))])
    #expect(categories(script.epoch(before: [Run(0..<8, .written(by: 2))])) == [.linearizability])
  }

  @Test func lostWriteIsFoundOnItsBlock() throws {
    var script = Script()
    script.make(1, .write, 0..<8)
    script.make(2, .write, 4..<6)
    for id in 20..<40 { script.make(UInt64(id), .write, 12..<14) }
    script.make(3, .read, 0..<8, seen: [Run(0..<8, .written(by: 1))])
    let findings = EpochJudge.judge(script.epoch())
    let finding = try #require(findings.first)
    #expect(finding.category == .linearizability)
    // The two WRITEs and the READ, nothing else.
    #expect(finding.witness.map(\.command) == ["WRITE #1", "WRITE #2", "READ"])
  }

  @Test func halfAWriteIsNoMatterOfBlocks() throws {
    var script = Script()
    script.make(1, .write, 0..<8)
    script.send(2, .write, 0..<8)
    script.make(3, .read, 0..<8, seen: [Run(0..<4, .written(by: 2)), Run(4..<8, .written(by: 1))])
    script.answer(2)
    let findings = EpochJudge.judge(script.epoch())
    #expect(findings.map(\.category) == [.atomicity])
    #expect(try #require(findings.first).witness.count == 3)
  }

  @Test func tornBlockBringsWhoWroteIt() throws {
    var script = Script()
    script.make(1, .write, 4..<8)
    script.send(2, .write, 0..<8)
    script.make(3, .read, 0..<8, seen: [Run(0..<4, .written(by: 2)), Run(4..<5, .broken), Run(5..<8, .written(by: 1))])
    script.answer(2)
    let findings = EpochJudge.judge(script.epoch())
    #expect(findings.map(\.category) == [.torn])
    #expect(try #require(findings.first).witness.map(\.command) == ["WRITE #2", "READ"])
  }

  /// Nothing was going on there: no matter of requests that overlap.
  @Test func brokenBlockInQuietIsAccused() {
    var script = Script()
    script.make(2, .write, 0..<8)
    script.send(4, .write, 0..<4)
    script.make(3, .read, 0..<8, seen: [Run(0..<4, .written(by: 2)), Run(4..<5, .broken), Run(5..<8, .written(by: 2))])
    script.answer(4)
    #expect(categories(script.epoch()) == [.linearizability])
  }

  @Test func holeOverAcknowledgedDataIsAccused() throws {
    var script = Script()
    script.make(1, .write, 0..<8)
    script.send(2, .status, 0..<16)
    script.answer(2, holes: [4..<16])
    let finding = try #require(EpochJudge.judge(script.epoch()).first)
    #expect(finding.category == .status)
    #expect(finding.witness.map(\.command) == ["WRITE #1", "STATUS"])
  }

  @Test func holeOverWhatMayBeTrimmedIsNot() {
    var script = Script()
    script.make(1, .write, 0..<8)
    script.send(3, .trim, 0..<8)
    script.send(2, .status, 0..<16)
    script.answer(2, holes: [4..<16])
    script.answer(3)
    #expect(categories(script.epoch()).isEmpty)
  }

  @Test func flushedDataThatIsGoneAfterAKillIsAccused() {
    var script = Script()
    script.make(1, .write, 0..<8)
    script.make(2, .flush, 0..<0)
    let killed = script.kill()
    script.readAfterKill(3, 0..<8, seen: [Run(0..<8, .zero)])
    #expect(categories(script.epoch(killed: killed)) == [.durability])
  }

  @Test func forcedUnitAccessIsDurable() {
    var script = Script()
    script.make(1, .write, 0..<8, fua: true)
    let killed = script.kill()
    script.readAfterKill(3, 0..<8, seen: [Run(0..<8, .zero)])
    #expect(categories(script.epoch(killed: killed)) == [.durability])
  }

  @Test func dataThatWasOnlyAcknowledgedIsLost() {
    var script = Script()
    script.make(2, .flush, 0..<0)
    script.make(1, .write, 0..<8)
    let killed = script.kill()
    script.readAfterKill(3, 0..<8, seen: [Run(0..<8, .zero)])
    #expect(categories(script.epoch(killed: killed)) == [.lost])
  }

  @Test func unansweredWriteMayBeThereInPartAfterAKill() {
    var script = Script()
    script.send(1, .write, 0..<8)
    let killed = script.kill()
    script.readAfterKill(3, 0..<8, seen: [Run(0..<3, .written(by: 1)), Run(3..<8, .zero)])
    #expect(categories(script.epoch(killed: killed)).isEmpty)
  }

  /// What a killed server had not done it does not do later.
  @Test func unansweredWriteDoesNotLandAfterTheKill() {
    var script = Script()
    script.send(1, .write, 0..<8)
    let killed = script.kill()
    script.make(2, .write, 0..<8)
    script.readAfterKill(3, 0..<8, seen: [Run(0..<8, .written(by: 1))])
    #expect(!categories(script.epoch(killed: killed)).isEmpty)
  }

  @Test func restOfATornReadIsJudged() {
    var script = Script()
    script.make(1, .write, 0..<8)
    script.make(2, .write, 0..<8)
    script.send(3, .write, 4..<8)
    script.make(4, .read, 0..<8, seen: [Run(0..<4, .written(by: 1)), Run(4..<5, .broken), Run(5..<8, .written(by: 3))])
    script.answer(3)
    #expect(categories(script.epoch()) == [.torn, .linearizability])
  }

  /// A block of another place is no half of a change.
  @Test func misplacedBlockIsNotExcusedByAChange() {
    var script = Script()
    script.send(2, .write, 0..<8)
    script.make(3, .read, 0..<8, seen: [Run(0..<4, .written(by: 2)), Run(4..<5, .misplaced), Run(5..<8, .zero)])
    script.answer(2)
    #expect(categories(script.epoch()) == [.linearizability])
  }
}

/// What is promised of blocks under a TRIM, and what is not.
@Suite struct TrimTests {
  @Test func contentOfATrimmedBlockIsNoPromise() {
    var script = Script()
    script.make(1, .write, 0..<4)
    script.make(2, .trim, 0..<4)
    script.make(3, .read, 0..<4, seen: [Run(0..<4, .zero)])
    #expect(categories(script.epoch()).isEmpty)
    script.make(4, .read, 0..<4, seen: [Run(0..<4, .written(by: 1))])
    #expect(categories(script.epoch()) == [.trimmed])
  }

  @Test func contentOfNobodyUnderATrimIsNoPromise() {
    var script = Script()
    script.make(1, .write, 0..<4)
    script.make(2, .trim, 0..<2)
    script.make(3, .read, 0..<4, seen: [Run(0..<1, .broken), Run(1..<2, .misplaced), Run(2..<4, .written(by: 1))])
    #expect(Set(categories(script.epoch())) == [.trimmed])
    script.make(4, .read, 0..<4, seen: [Run(0..<3, .written(by: 1)), Run(3..<4, .misplaced)])
    #expect(categories(script.epoch()).contains(.linearizability), "block 3 is not under the TRIM")
  }

  @Test func whatOverwroteATrimIsPromised() {
    var script = Script()
    script.make(1, .write, 0..<4)
    script.make(2, .trim, 0..<4)
    script.make(3, .write, 0..<4)
    script.make(4, .read, 0..<4, seen: [Run(0..<4, .written(by: 1))])
    #expect(categories(script.epoch()) == [.linearizability])
  }

  @Test func aTrimBesideAnOverwriteLeavesItOpen() {
    var script = Script()
    script.make(1, .write, 0..<4)
    script.send(2, .trim, 0..<4)
    script.make(3, .write, 0..<4)
    script.answer(2)
    script.make(4, .read, 0..<4, seen: [Run(0..<4, .written(by: 1))])
    #expect(categories(script.epoch()) == [.trimmed])
  }

  @Test func aTrimOfAnEarlierEpochLeavesItOpen() {
    var script = Script()
    script.make(5, .read, 0..<4, seen: [Run(0..<4, .zero)])
    script.make(6, .read, 0..<2, seen: [Run(0..<2, .written(by: 2))])
    let before = [Run(0..<8, .written(by: 1))]
    #expect(categories(script.epoch(before: before)).contains(.linearizability))
    #expect(Set(categories(script.epoch(before: before, trimmed: 0..<4))) == [.trimmed])
  }

  @Test func statusOfATrimmedBlockIsNoPromise() {
    var script = Script()
    script.make(1, .write, 0..<4)
    script.make(2, .trim, 0..<4)
    script.make(3, .read, 0..<4, seen: [Run(0..<4, .written(by: 1))])
    script.send(4, .status, 0..<4)
    script.answer(4, holes: [0..<4])
    script.make(5, .read, 0..<4, seen: [Run(0..<4, .written(by: 1))])
    #expect(categories(script.epoch()) == [.trimmed])
  }

  @Test func whatIsUnderATrimAtTheEndIsKnown() {
    var script = Script()
    script.make(1, .trim, 0..<8)
    script.make(2, .write, 0..<2)
    script.send(3, .zero, 2..<4)
    script.make(4, .trim, 2..<3)
    script.answer(3)
    script.make(5, .write, 12..<13)
    let trimmed = script.epoch(trimmed: 12..<14).trimmedAtEnd
    #expect(trimmed.indices.filter { trimmed[$0] } == [2, 4, 5, 6, 7, 13])
    let killed = script.epoch(trimmed: 12..<14, killed: 100).trimmedAtEnd
    #expect(killed.indices.filter { killed[$0] } == [0, 1, 2, 3, 4, 5, 6, 7, 12, 13])
  }
}

/// What a kill may take with it.
@Suite struct KillTests {
  @Test func contentFromBeforeIsDurableOnlyIfItWasSynced() {
    var script = Script()
    let killed = script.kill()
    script.readAfterKill(3, 0..<8, seen: [Run(0..<8, .zero)])
    script.readAfterKill(4, 8..<9, seen: [Run(8..<9, .written(by: 1))])
    var epoch = script.epoch(before: [Run(0..<9, .written(by: 2))], killed: killed)
    #expect(Set(categories(epoch)) == [.durability])
    epoch.isBeforeDurable = false
    #expect(Set(categories(epoch)) == [.lost])
  }

  @Test func whatWasReadButNotAcknowledgedMayBeGone() {
    var script = Script()
    script.make(1, .write, 0..<4, fua: true)
    script.send(2, .write, 0..<4)
    script.make(3, .read, 0..<4, seen: [Run(0..<4, .written(by: 2))])
    let killed = script.kill()
    script.readAfterKill(4, 0..<4, seen: [Run(0..<4, .written(by: 1))])
    #expect(categories(script.epoch(killed: killed)).isEmpty)
  }

  @Test func theOrderOfDurableWritesIsLearnedFromAReader() {
    var script = Script()
    script.send(1, .write, 0..<4, fua: true)
    script.make(2, .write, 0..<4, fua: true)
    script.answer(1)
    script.make(3, .read, 0..<4, seen: [Run(0..<4, .written(by: 2))])
    let killed = script.kill()
    script.readAfterKill(4, 0..<4, seen: [Run(0..<4, .written(by: 1))])
    #expect(categories(script.epoch(killed: killed)) == [.durability])
  }
}
