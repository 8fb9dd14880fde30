// What waits for a lock: handed over before or after it is granted, given up, cancelled; and what runs when.

import BlockBackend
import NBDServerCore
import RangeLocks
import TestBackends
import Testing

private typealias Core = ImageCore<Int>

extension Admission {
  fileprivate var token: RangeLockTable.Token {
    switch self {
    case .granted(let token), .waiting(let token): token
    }
  }
  fileprivate var isGranted: Bool {
    switch self {
    case .granted: true
    case .waiting: false
    }
  }
}

@Suite struct ImageCoreTests {
  private func core() -> Core { Core(geometry: Geometry(sizeBytes: 1 << 20)) }

  @Test func waiterThatWasHandedOverRunsAtTheGrant() {
    var core = core()
    var runnable: [Int] = []
    let first = core.admit(0..<10, .exclusive)
    let second = core.admit(5..<15, .exclusive)
    claim(first.isGranted)
    claim(!second.isGranted)
    claim(core.park(2, behind: second.token) == nil)
    core.finish(first.token, mutated: true, runnable: &runnable)
    claim(runnable == [2])
    core.finish(second.token, mutated: true, runnable: &runnable)
    claim(core.heldCount == 0)
    claim(core.waitingCount == 0)
  }

  /// The lock may come while the request is still on its way from its worker.
  @Test func waiterThatIsHandedOverAfterTheGrantRunsAtOnce() {
    var core = core()
    var runnable: [Int] = []
    let first = core.admit(0..<10, .exclusive)
    let second = core.admit(0..<10, .shared)
    core.finish(first.token, mutated: true, runnable: &runnable)
    claim(runnable.isEmpty)
    claim(core.park(2, behind: second.token) == 2)
    core.finish(second.token, mutated: false, runnable: &runnable)
    claim(core.heldCount == 0)
  }

  @Test func abandonedWaiterLetsOthersGo() {
    var core = core()
    var runnable: [Int] = []
    let first = core.admit(0..<10, .shared)
    let second = core.admit(0..<10, .exclusive)
    let third = core.admit(0..<10, .shared)
    claim(!third.isGranted)
    claim(core.park(3, behind: third.token) == nil)
    core.abandon(second.token, runnable: &runnable)
    claim(runnable == [3])
    core.finish(first.token, mutated: false, runnable: &runnable)
    core.finish(third.token, mutated: false, runnable: &runnable)
    claim(core.heldCount == 0)
  }

  @Test func waiterAbandonedAfterTheGrantUnlocks() {
    var core = core()
    var runnable: [Int] = []
    let first = core.admit(0..<10, .exclusive)
    let second = core.admit(0..<10, .exclusive)
    let third = core.admit(0..<10, .exclusive)
    claim(core.park(3, behind: third.token) == nil)
    core.finish(first.token, mutated: true, runnable: &runnable)
    claim(runnable.isEmpty)
    core.abandon(second.token, runnable: &runnable)
    claim(runnable == [3])
    core.finish(third.token, mutated: true, runnable: &runnable)
    claim(core.heldCount == 0)
  }

  /// Only what has not begun: the others keep their locks until they really end (I6).
  @Test func cancellingTakesOnlyWhatWaits() {
    var core = core()
    var runnable: [Int] = []
    let first = core.admit(0..<10, .exclusive)
    let second = core.admit(0..<10, .exclusive)
    let third = core.admit(0..<10, .exclusive)
    let onItsWay = core.admit(0..<10, .exclusive)
    _ = core.park(2, behind: second.token)
    _ = core.park(3, behind: third.token)
    claim(core.cancelWaiting(first.token, runnable: &runnable) == nil)
    claim(core.cancelWaiting(onItsWay.token, runnable: &runnable) == nil)
    claim(core.cancelWaiting(second.token, runnable: &runnable) == 2)
    claim(core.cancelWaiting(second.token, runnable: &runnable) == nil)
    claim(runnable.isEmpty)
    core.finish(first.token, mutated: true, runnable: &runnable)
    claim(runnable == [3])
    claim(core.cancelWaiting(third.token, runnable: &runnable) == nil)
    core.finish(third.token, mutated: true, runnable: &runnable)
    claim(core.park(4, behind: onItsWay.token) == 4)
  }

  @Test func runnableComesInTheOrderOfArrival() {
    var core = core()
    var runnable: [Int] = []
    let first = core.admit(0..<100, .exclusive)
    for number in 0..<10 {
      let each = core.admit(UInt64(number * 7 % 10) * 10..<UInt64(number * 7 % 10) * 10 + 10, .exclusive)
      _ = core.park(number, behind: each.token)
    }
    core.finish(first.token, mutated: true, runnable: &runnable)
    claim(runnable == Array(0..<10))
  }

  @Test func everyMutationIsCounted() {
    var core = core()
    var runnable: [Int] = []
    let read = core.admit(0..<10, .shared)
    core.finish(read.token, mutated: false, runnable: &runnable)
    claim(core.flush.generation == 0)
    let write = core.admit(0..<10, .exclusive)
    claim(core.flush.generation == 0)
    core.finish(write.token, mutated: true, runnable: &runnable)
    claim(core.flush.generation == 1)
  }

  @Test func lockedRangeIsRoundedOutward() {
    var core = Core(geometry: Geometry(sizeBytes: 1 << 20, lockUnitBytes: 4096))
    claim(core.effectiveRange(0..<1) == 0..<4096)
    claim(core.effectiveRange(4095..<4097) == 0..<8192)
    claim(core.effectiveRange(4096..<8192) == 4096..<8192)
    let first = core.admit(0..<1, .exclusive)
    claim(first.isGranted)
    claim(!core.admit(4095..<4096, .exclusive).isGranted)
    claim(core.admit(4096..<4097, .exclusive).isGranted)
  }

  private struct Entry {
    var range: Range<UInt64>
    var mode: RangeLockTable.Mode
    var token: RangeLockTable.Token
    var state: State
    enum State { case preparing, parked, running }

    func conflicts(with other: Entry) -> Bool {
      range.overlaps(other.range) && (mode == .exclusive || other.mode == .exclusive)
    }
  }

  /// Whatever the order of handing over, giving up, cancelling and ending: what runs does not conflict, runs in order, and
  /// everything that was not taken out has run in the end.
  @Test func randomOrderRunsEverythingOnceWithoutConflict() {
    let seed = printedSeed()
    var random = SplitMix(seed: seed)
    for run in 0..<20 {
      var core = core()
      var entries: [Int: Entry] = [:]
      var runnable: [Int] = []
      var next = 0

      func starts(_ number: Int) {
        guard let each = entries[number] else {
          Issue.record("what runs is known, seed \(seed) run \(run)")
          return
        }
        for (other, entry) in entries where other < number || entry.state == .running && other != number {
          claim(!entry.conflicts(with: each), "\(other) is in front of \(number), seed \(seed) run \(run)")
        }
        claim(each.state != .running, "runs once, seed \(seed) run \(run)")
        entries[number]?.state = .running
      }
      func startAll() {
        claim(runnable == runnable.sorted(), "in order of arrival, seed \(seed) run \(run)")
        for number in runnable { starts(number) }
        runnable = []
      }

      for step in 0..<300 {
        // The last steps only end what is there.
        let isEnding = step >= 200
        let states = entries.keys.sorted()
        switch Int.random(in: isEnding ? 4..<10 : 0..<10, using: &random) {
        case 0...3:
          let lower = UInt64.random(in: 0..<50, using: &random)
          let range = lower..<lower + UInt64.random(in: 1...15, using: &random)
          let mode: RangeLockTable.Mode = Bool.random(using: &random) ? .shared : .exclusive
          let admission = core.admit(range, mode)
          entries[next] = Entry(range: range, mode: mode, token: admission.token, state: .preparing)
          if admission.isGranted { starts(next) }
          next += 1
        case 4...5:
          guard let number = states.filter({ entries[$0]?.state == .preparing }).randomElement(using: &random),
            let token = entries[number]?.token
          else { continue }
          if !isEnding, Int.random(in: 0..<4, using: &random) == 0 {
            entries[number] = nil
            core.abandon(token, runnable: &runnable)
          } else if core.park(number, behind: token) == number {
            starts(number)
          } else {
            entries[number]?.state = .parked
          }
        case 6:
          guard let number = states.randomElement(using: &random), let entry = entries[number] else { continue }
          // Without knowing what became of it, as the death of a connection does it.
          guard entry.state != .running, !isEnding else { continue }
          let cancelled = core.cancelWaiting(entry.token, runnable: &runnable)
          claim((cancelled != nil) == (entry.state == .parked), "seed \(seed) run \(run)")
          if cancelled != nil { entries[number] = nil }
        default:
          guard let number = states.filter({ entries[$0]?.state == .running }).randomElement(using: &random),
            let entry = entries.removeValue(forKey: number)
          else { continue }
          core.finish(entry.token, mutated: entry.mode == .exclusive, runnable: &runnable)
        }
        startAll()
        core.checkInvariants()
      }
      while let number = entries.keys.sorted().first, let entry = entries[number] {
        switch entry.state {
        case .preparing:
          claim(core.park(number, behind: entry.token) == number, "nothing is in front of the first")
          starts(number)
        case .parked:
          Issue.record("the first in line runs, seed \(seed) run \(run)")
          entries[number] = nil
        case .running:
          entries[number] = nil
          core.finish(entry.token, mutated: false, runnable: &runnable)
          startAll()
        }
      }
      claim(core.heldCount == 0)
      claim(core.waitingCount == 0)
    }
  }
}
