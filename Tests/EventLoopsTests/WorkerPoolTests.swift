// Leases: every item is served, first come, first served, by no more workers than may be awake.

import EventLoops
import Locking
import Synchronization
import Syscalls
import SystemPackage
import Testing

/// What the workers of a test share.
private final class Floor: Sendable {
  let started = Tally()
  let ended = Tally()
  let order = Notes<Int>()
  let running = Atomic<Int>(0)
  let runningPeak = Atomic<Int>(0)

  func enter() {
    let now = running.add(1, ordering: .relaxed).newValue
    runningPeak.max(now, ordering: .relaxed)
    started.add()
  }

  func leave() {
    running.subtract(1, ordering: .relaxed)
    ended.add()
  }
}

private struct Job: ~Copyable, Sendable {
  let number: Int
  var gate: Gate?
}

/// A per-thread context that cannot be copied and tells when it goes.
private struct Desk: ~Copyable {
  var served = 0
  let gone: Tally

  deinit { gone.add() }
}

private let lasting = 3600

extension WorkerPool where Item: ~Copyable & Sendable, Context: ~Copyable {
  fileprivate func end() {
    shutDown()
    #expect(join(milliseconds: 10_000))
  }
}

@Suite struct WorkerPoolTests {
  private let floor = Floor()

  private func pool(
    awakeMax: Int, threadsMax: Int, idleSeconds: Int = lasting, spawn: @escaping PosixThread.Spawn = PosixThread.spawn
  ) -> WorkerPool<Job, Void> {
    WorkerPool(
      name: "test", limits: WorkerLimits(awakeMax: awakeMax, threadsMax: threadsMax, idleSeconds: idleSeconds),
      spawn: spawn, makeContext: {}
    ) { [floor] _, job in
      floor.order.add(job.number)
      floor.enter()
      job.gate?.pass()
      floor.leave()
    }
  }

  @Test func aNewPoolHasNoThread() {
    let pool = pool(awakeMax: 2, threadsMax: 4)
    #expect(pool.counts.threads == 0)
    #expect(!pool.itemsAreWaiting)
    pool.end()
  }

  @Test func itemsAreServedInTheirOrder() {
    let pool = pool(awakeMax: 1, threadsMax: 4)
    for number in 0..<200 { pool.submit(Job(number: number)) }
    #expect(floor.ended.wait(for: 200))
    #expect(floor.order.all == Array(0..<200))
    #expect(floor.runningPeak.load(ordering: .relaxed) == 1)
    #expect(pool.counts.threads == 1)
    pool.end()
  }

  @Test func noMoreThanMayBeAwakeAre() {
    let pool = pool(awakeMax: 2, threadsMax: 8)
    let gate = Gate()
    for number in 0..<6 { pool.submit(Job(number: number, gate: gate)) }
    #expect(floor.started.wait(for: 2))
    #expect(pool.itemsAreWaiting)
    #expect(pool.counts.waiting == 4)
    #expect(pool.counts.threads == 2)
    #expect(pool.counts.awake == 2)
    gate.open()
    #expect(floor.ended.wait(for: 6))
    #expect(floor.runningPeak.load(ordering: .relaxed) == 2)
    #expect(eventually { pool.counts.awake == 0 })
    pool.end()
  }

  @Test func aSleepingWorkerMakesRoomForAnother() {
    let gates = (0..<3).map { _ in Gate() }
    let (started, woken, ended) = (Tally(), Tally(), Tally())
    let pool = Locked<WorkerPool<Int, Void>?>(nil)
    let made = WorkerPool<Int, Void>(
      name: "test", limits: WorkerLimits(awakeMax: 1, threadsMax: 2, idleSeconds: lasting), makeContext: {}
    ) { _, number in
      let pool = pool.withLock { $0! }
      started.add()
      pool.willSleep()
      gates[number].pass()
      pool.didWake()
      woken.add()
      ended.add()
    }
    pool.withLock { $0 = made }
    for number in 0..<3 { made.submit(number) }
    // Only one may be awake, but two sleep; a third thread there is not.
    #expect(started.wait(for: 2))
    #expect(made.counts.waiting == 1)
    #expect(made.counts.threads == 2)
    #expect(eventually { made.counts.awake == 0 })
    gates[0].open()
    #expect(started.wait())
    #expect(!made.itemsAreWaiting)
    gates[1].open()
    gates[2].open()
    #expect(ended.wait(for: 3))
    pool.withLock { $0 = nil }
    made.end()
  }

  /// Data arrives for all who slept: too many are awake then, and those who finish make way.
  @Test func whoFinishesWhileTooManyAreAwakeParks() {
    let wake = Gate()
    let finish = (0..<4).map { _ in Gate() }
    let (slept, awake, ended) = (Tally(), Tally(), Tally())
    let pool = Locked<WorkerPool<Int, Void>?>(nil)
    let made = WorkerPool<Int, Void>(
      name: "test", limits: WorkerLimits(awakeMax: 1, threadsMax: 8, idleSeconds: lasting), makeContext: {}
    ) { _, number in
      let pool = pool.withLock { $0! }
      if number < 3 {
        pool.willSleep()
        slept.add()
        wake.pass()
        pool.didWake()
      }
      awake.add()
      finish[min(number, 3)].pass()
      ended.add()
    }
    pool.withLock { $0 = made }
    for number in 0..<3 { made.submit(number) }
    #expect(slept.wait(for: 3))
    wake.open()
    #expect(awake.wait(for: 3))
    #expect(made.counts.awake == 3)
    made.submit(3)
    finish[0].open()
    finish[1].open()
    #expect(ended.wait(for: 2))
    #expect(eventually { made.counts.awake == 1 })
    #expect(made.counts.waiting == 1)
    finish[2].open()
    #expect(awake.wait())
    #expect(made.counts.waiting == 0)
    finish[3].open()
    #expect(ended.wait(for: 2))
    pool.withLock { $0 = nil }
    made.end()
  }

  @Test func eachWorkerHasAContextOfItsOwn() {
    let gone = Tally()
    let served = Notes<Int>()
    let (started, gate) = (Tally(), Gate())
    let pool = WorkerPool<Int, Desk>(
      name: "test", limits: WorkerLimits(awakeMax: 2, threadsMax: 2, idleSeconds: lasting),
      makeContext: { Desk(gone: gone) }
    ) { desk, _ in
      desk.served += 1
      served.add(desk.served)
      started.add()
      gate.pass()
    }
    for number in 0..<2 { pool.submit(number) }
    #expect(started.wait(for: 2))
    #expect(served.all == [1, 1])
    gate.open()
    pool.submit(2)
    #expect(started.wait())
    #expect(served.all == [1, 1, 2])
    pool.end()
    #expect(gone.wait(for: 2))
  }

  @Test func idleWorkersEnd() {
    let pool = pool(awakeMax: 4, threadsMax: 4, idleSeconds: 0)
    for round in 0..<20 {
      for number in 0..<4 { pool.submit(Job(number: round * 4 + number)) }
      #expect(floor.ended.wait(for: 4))
    }
    #expect(eventually { pool.counts.threads == 0 })
    #expect(pool.counts.awake == 0)
    pool.submit(Job(number: 80))
    #expect(floor.ended.wait())
    pool.end()
  }

  @Test func whatIsQueuedAtShutdownIsServed() {
    let pool = pool(awakeMax: 1, threadsMax: 1)
    let gate = Gate()
    for number in 0..<5 { pool.submit(Job(number: number, gate: gate)) }
    pool.shutDown()
    #expect(!pool.join(milliseconds: 5))
    gate.open()
    pool.submit(Job(number: 5))
    #expect(floor.ended.wait(for: 6))
    #expect(pool.join(milliseconds: 10_000))
    #expect(floor.order.all == Array(0..<6))
    #expect(pool.counts.threads == 0)
  }

  @Test(arguments: [1, 3])
  func noItemIsLostWhenNoThreadCanBeMade(awakeMax: Int) {
    let spawner = Spawner(failures: 5)
    let pool = pool(awakeMax: awakeMax, threadsMax: 4, spawn: spawner.spawn)
    for number in 0..<10 { pool.submit(Job(number: number)) }
    #expect(floor.ended.wait(for: 10))
    #expect(floor.order.all.sorted() == Array(0..<10))
    #expect(spawner.failed >= 5)
    #expect(eventually { pool.counts.awake == 0 })
    pool.end()
  }

  @Test func aWorkerThatExistsServesWhatNewOnesCannot() {
    let spawner = Spawner(failures: 0)
    let pool = pool(awakeMax: 4, threadsMax: 4, spawn: spawner.spawn)
    let gate = Gate()
    pool.submit(Job(number: 0, gate: gate))
    #expect(floor.started.wait())
    spawner.failAlways()
    for number in 1..<4 { pool.submit(Job(number: number)) }
    #expect(pool.counts.threads == 1)
    gate.open()
    #expect(floor.ended.wait(for: 4))
    #expect(floor.order.all == [0, 1, 2, 3])
    pool.end()
  }

  /// Many submitters, workers that sleep and wake: every item is served, and the count of those awake comes back to zero.
  @Test(arguments: [(1, 1), (1, 4), (2, 3), (3, 16)], [0, lasting])
  func nothingIsLostUnderLoad(limits: (awakeMax: Int, threadsMax: Int), idleSeconds: Int) throws {
    let ended = Tally()
    let pool = Locked<WorkerPool<Int, SplitMix>?>(nil)
    let seeds = Atomic<Int>(1)
    let made = WorkerPool<Int, SplitMix>(
      name: "load",
      limits: WorkerLimits(awakeMax: limits.awakeMax, threadsMax: limits.threadsMax, idleSeconds: idleSeconds),
      makeContext: { SplitMix(seed: UInt64(seeds.add(1, ordering: .relaxed).newValue)) }
    ) { random, number in
      let pool = pool.withLock { $0! }
      for _ in 0..<Int(random.next() % 4) {
        pool.willSleep()
        for _ in 0..<Int(random.next() % 300) { _ = pool.itemsAreWaiting }
        pool.didWake()
      }
      // Some leases go back into the queue.
      if number > 0 && random.next() % 4 == 0 { pool.submit(number - 1) } else { ended.add() }
    }
    pool.withLock { $0 = made }
    let submitters = 4
    let each = 250
    for _ in 0..<submitters {
      try PosixThread.spawn(name: "submitter") {
        for _ in 0..<each { made.submit(3) }
      }
    }
    try #require(ended.wait(for: submitters * each))
    #expect(eventually { made.counts.awake == 0 })
    #expect(made.counts.waiting == 0)
    #expect(made.counts.threads <= limits.threadsMax)
    pool.withLock { $0 = nil }
    made.end()
  }
}

/// Makes threads, but not at first.
final class Spawner: Sendable {
  private let failuresLeft: Atomic<Int>
  private let failures = Atomic<Int>(0)

  init(failures: Int) { failuresLeft = Atomic(failures) }

  var failed: Int { failures.load(ordering: .relaxed) }

  func failAlways() { failuresLeft.store(.max / 2, ordering: .relaxed) }

  var spawn: PosixThread.Spawn {
    { [self] (name, body) throws(Errno) in
      if failuresLeft.subtract(1, ordering: .relaxed).oldValue > 0 {
        failures.add(1, ordering: .relaxed)
        throw .resourceTemporarilyUnavailable
      }
      try PosixThread.spawn(name: name, body)
    }
  }
}
