// The fast lane: threads that serve one connection each for the time of a lease.

import DequeModule
import Locking
import Synchronization
import Syscalls
import SystemPackage

package struct WorkerLimits: Sendable {
  /// Workers that run; those between `willSleep` and `didWake` do not count.
  package var awakeMax: Int
  /// All workers.
  package var threadsMax: Int
  /// A worker without an item for so long ends.
  package var idleSeconds: Int

  package init(awakeMax: Int, threadsMax: Int, idleSeconds: Int) {
    precondition(awakeMax > 0, "somebody may be awake")
    precondition(threadsMax >= awakeMax, "who may be awake may exist")
    self.awakeMax = awakeMax
    self.threadsMax = threadsMax
    self.idleSeconds = idleSeconds
  }
}

/// Serves items first come, first served. In a lease a worker calls nothing here but `itemsAreWaiting`, `willSleep` and
/// `didWake`, which are an atomic operation or two.
///
/// `awake` is counted up by who wakes a worker (never beyond `awakeMax`) and by `didWake` (beyond it, if need be: data has
/// arrived for a lease); a worker that finishes its item while too many are awake parks, even when items wait.
package final class WorkerPool<Item: ~Copyable & Sendable, Context: ~Copyable>: Sendable {
  private let awake = Atomic<Int>(0)
  private let waiting = Atomic<Int>(0)
  private let crew: ThreadCrew
  private let awakeMax: Int
  private let items = Locked(UniqueDeque<Item>())
  private let makeContext: @Sendable () -> Context
  private let serve: @Sendable (inout Context, consuming Item) -> Void

  /// No thread is made before the first item. `makeContext` makes the state of one worker, on its thread; `serve` runs there.
  /// `spawn` is for tests.
  package init(
    name: String, limits: WorkerLimits, spawn: @escaping PosixThread.Spawn = PosixThread.spawn,
    makeContext: @escaping @Sendable () -> Context, serve: @escaping @Sendable (inout Context, consuming Item) -> Void
  ) {
    crew = ThreadCrew(
      name: name, threadsMax: limits.threadsMax, idleMilliseconds: limits.idleSeconds * 1000, spawn: spawn)
    awakeMax = limits.awakeMax
    self.makeContext = makeContext
    self.serve = serve
  }

  /// Queues `item` and sees to it that it is served: by a parked worker, a new one, or the next that finishes. Any thread.
  package func submit(_ item: consuming Item) {
    // A closure cannot consume what it captures.
    var item: Item? = consume item
    items.withLock { items in
      items.append(item.take()!)
      waiting.add(1, ordering: .sequentiallyConsistent)
    }
    wakeOne()
  }

  /// Whether items are queued: who serves one now does not wait in `recv`, and gives it back when it is quiet.
  package var itemsAreWaiting: Bool { waiting.load(ordering: .relaxed) > 0 }

  /// Called by a worker that is about to wait for its connection; others may take its place.
  package func willSleep() {
    awake.subtract(1, ordering: .sequentiallyConsistent)
    if waiting.load(ordering: .sequentiallyConsistent) > 0 { wakeOne() }
  }

  /// Called by a worker after each `willSleep`. Never waits.
  package func didWake() { awake.add(1, ordering: .sequentiallyConsistent) }

  /// Workers that run, for a worker that asks itself whether a CPU is idle. Cheap.
  package var awakeCount: Int { awake.load(ordering: .relaxed) }

  package struct Counts: Sendable {
    package let threads: Int
    package let awake: Int
    package let waiting: Int
  }

  /// For metrics: each was true at some time of the call.
  package var counts: Counts {
    Counts(
      threads: crew.threadCount, awake: awake.load(ordering: .relaxed), waiting: waiting.load(ordering: .relaxed))
  }

  /// From now on workers end when nothing is queued. What is queued, or is submitted later, is still served.
  package func shutDown() { crew.shutDown() }

  /// After `shutDown`: waits until all workers have ended. False when some had not after `milliseconds`, stuck in the kernel
  /// perhaps. Not on a worker.
  package func join(milliseconds: Int) -> Bool { crew.join(milliseconds: milliseconds) }

  // MARK: Workers

  private func work() {
    var context = makeContext()
    let seat = ThreadCrew.Seat()
    repeat {
      while let item = next() { serve(&context, item) }
    } while crew.park(seat, lastLook: willSleep)
  }

  private func next() -> Item? {
    items.withLock { items in
      if awake.load(ordering: .relaxed) > awakeMax { return nil }
      if items.isEmpty { return nil }
      waiting.subtract(1, ordering: .sequentiallyConsistent)
      return items.removeFirst()
    }
  }

  private func wakeOne() {
    switch crew.wakeOne(if: mayWake, body: { self.work() }) {
    case .woken, .notWoken: return
    case .failed:
      awake.subtract(1, ordering: .sequentiallyConsistent)
      // Workers that exist will take the item; there may be none.
      crew.retryLater { [self] in
        if itemsAreWaiting { wakeOne() }
      }
    }
  }

  /// Counts one more as awake, if that is allowed.
  private func mayWake() -> Bool {
    var now = awake.load(ordering: .sequentiallyConsistent)
    while now < awakeMax {
      let (exchanged, original) = awake.compareExchange(
        expected: now, desired: now + 1, ordering: .sequentiallyConsistent)
      if exchanged { return true }
      now = original
    }
    return false
  }
}
