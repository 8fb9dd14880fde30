// FLUSH and FUA (I7): who is answered by which sync, and what a failed one means.

import NBDServerCore
import SystemPackage
import TestBackends
import Testing

@Suite struct FlushTicketsTests {
  /// A predecessor that was killed had acknowledged writes.
  @Test func firstFlushAlwaysSyncs() {
    var tickets = FlushTickets()
    #expect(!tickets.isDurable)
    #expect(tickets.request(1) == .waiting(lead: true))
    let covered = tickets.begin()
    let end = tickets.end(covered: covered, error: nil)
    #expect(end.answered == [1])
    #expect(!end.again)
    #expect(tickets.isDurable)
    #expect(tickets.request(2) == .durable)
  }

  @Test func mutationMakesTheNextFlushSync() {
    var tickets = FlushTickets.synced()
    tickets.bump()
    #expect(!tickets.isDurable)
    #expect(tickets.request(1) == .waiting(lead: true))
  }

  @Test func oneSyncAnswersAllWhoCameBeforeIt() {
    var tickets = FlushTickets.synced()
    tickets.bump()
    #expect(tickets.request(1) == .waiting(lead: true))
    tickets.bump()
    #expect(tickets.request(2) == .waiting(lead: false))
    #expect(tickets.request(3) == .waiting(lead: false))
    let covered = tickets.begin()
    let end = tickets.end(covered: covered, error: nil)
    #expect(end.answered == [1, 2, 3])
    #expect(!end.again)
  }

  /// What was written while a sync ran may have missed it.
  @Test func whoComesDuringASyncWaitsForTheNext() {
    var tickets = FlushTickets.synced()
    tickets.bump()
    _ = tickets.request(1)
    let first = tickets.begin()
    tickets.bump()
    #expect(tickets.request(2) == .waiting(lead: false))
    let end = tickets.end(covered: first, error: nil)
    #expect(end.answered == [1])
    #expect(end.again)
    #expect(!tickets.isDurable)
    let second = tickets.begin()
    let last = tickets.end(covered: second, error: nil)
    #expect(last.answered == [2])
    #expect(!last.again)
    #expect(tickets.isDurable)
  }

  /// Nothing changed since the sync began, so it covers a FLUSH that came while it ran.
  @Test func unchangedImageIsCoveredByTheRunningSync() {
    var tickets = FlushTickets.synced()
    tickets.bump()
    _ = tickets.request(1)
    let covered = tickets.begin()
    #expect(tickets.request(2) == .waiting(lead: false))
    let end = tickets.end(covered: covered, error: nil)
    #expect(end.answered == [1, 2])
    #expect(!end.again)
  }

  /// A mutation that came during the sync is not covered, even if nobody waits for it.
  @Test func mutationDuringASyncIsNotDurable() {
    var tickets = FlushTickets.synced()
    tickets.bump()
    _ = tickets.request(1)
    let covered = tickets.begin()
    tickets.bump()
    _ = tickets.end(covered: covered, error: nil)
    #expect(!tickets.isDurable)
    #expect(tickets.request(2) == .waiting(lead: true))
  }

  /// The sync after a failed one succeeds and lies, so those who would be answered by it get the error too.
  @Test func failureReachesAllWaiters() {
    var tickets = FlushTickets.synced()
    tickets.bump()
    _ = tickets.request(1)
    let covered = tickets.begin()
    tickets.bump()
    _ = tickets.request(2)
    let end = tickets.end(covered: covered, error: .ioError)
    #expect(end.answered == [1, 2])
    #expect(!end.again)
  }

  @Test func failureIsLatched() {
    var tickets = FlushTickets.synced()
    tickets.bump()
    _ = tickets.request(1)
    let covered = tickets.begin()
    _ = tickets.end(covered: covered, error: .noSpace)
    #expect(tickets.latched == .noSpace)
    // Before anything else is looked at: also with nothing to sync, also after further mutations.
    #expect(tickets.request(2) == .failed(.noSpace))
    #expect(!tickets.isDurable)
    tickets.bump()
    #expect(tickets.request(3) == .failed(.noSpace))
  }

  /// Against a disk that knows which mutations are durable: an answer is only given for those.
  @Test func randomOrderNeverAnswersTooEarly() {
    let seed = printedSeed()
    var random = SplitMix(seed: seed)
    for run in 0..<300 {
      var tickets = FlushTickets()
      var written: UInt64 = 0
      var durable: UInt64?
      /// What the disk held when the running sync began; it makes no more than that durable.
      var syncing: (covered: UInt64, written: UInt64)?
      var mustLead = false
      var waiting: [FlushTickets.WaiterID: UInt64] = [:]
      var syncs = 0
      for step in 0..<200 {
        switch Int.random(in: 0..<4, using: &random) {
        case 0:
          written += 1
          tickets.bump()
        case 1:
          let id = UInt64(step)
          switch tickets.request(id) {
          case .durable: claim(durable == written, "seed \(seed) run \(run)")
          case .failed: Issue.record("nothing failed, seed \(seed) run \(run)")
          case .waiting(let lead):
            claim(lead == waiting.isEmpty, "exactly the first who waits leads, seed \(seed) run \(run)")
            waiting[id] = written
            mustLead = mustLead || lead
          }
        case 2:
          if mustLead, syncing == nil {
            syncing = (tickets.begin(), written)
            syncs += 1
          }
        default:
          guard let sync = syncing else { continue }
          syncing = nil
          durable = max(durable ?? 0, sync.written)
          let end = tickets.end(covered: sync.covered, error: nil)
          for id in end.answered {
            let needed = waiting.removeValue(forKey: id)
            claim(needed != nil && needed! <= sync.written, "seed \(seed) run \(run)")
          }
          claim(waiting.values.allSatisfy { $0 > sync.written }, "seed \(seed) run \(run)")
          claim(end.again == !waiting.isEmpty, "seed \(seed) run \(run)")
          mustLead = end.again
        }
      }
      claim(waiting.isEmpty || mustLead, "somebody leads as long as somebody waits, seed \(seed) run \(run)")
    }
  }

  /// The operator's word brings nothing back: what the failed sync was for is not taken for durable.
  @Test func aClearedErrorLetsTheNextFlushSync() {
    var tickets = FlushTickets.synced()
    #expect(tickets.clearLatch() == nil)
    #expect(tickets.isDurable, "without an error nothing changes")
    tickets.bump()
    _ = tickets.request(1)
    let failing = tickets.begin()
    _ = tickets.end(covered: failing, error: .ioError)
    #expect(tickets.request(2) == .failed(.ioError))
    #expect(tickets.clearLatch() == .ioError)
    #expect(tickets.latched == nil)
    #expect(!tickets.isDurable)
    #expect(tickets.request(3) == .waiting(lead: true))
    let covered = tickets.begin()
    #expect(tickets.end(covered: covered, error: nil).answered == [3])
    #expect(tickets.isDurable)
  }
}

extension FlushTickets {
  /// After the first sync.
  static func synced() -> FlushTickets {
    var tickets = FlushTickets()
    _ = tickets.request(0)
    let covered = tickets.begin()
    _ = tickets.end(covered: covered, error: nil)
    return tickets
  }
}
