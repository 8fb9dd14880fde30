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

  func epoch(before: [Run] = [], killed: UInt64? = nil) -> Epoch {
    var settled = Settled(blocks: 16)
    for run in before { settled.set(run) }
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
}
