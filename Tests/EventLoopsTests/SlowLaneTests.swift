// What blocks is run in order, in turn, and never takes all threads for one queue.

import EventLoops
import Synchronization
import Syscalls
import Testing

@Suite struct SlowLaneTests {
  private func lane(threadsMax: Int, idleSeconds: Int = 3600, spawn: @escaping PosixThread.Spawn = PosixThread.spawn)
    -> SlowLane
  {
    SlowLane(name: "slow", threadsMax: threadsMax, idleSeconds: idleSeconds, spawn: spawn)
  }

  private func end(_ lane: SlowLane) {
    lane.shutDown()
    #expect(lane.join(milliseconds: 10_000))
    #expect(lane.threadCount == 0)
  }

  @Test func jobsOfAQueueWithOneAtATimeRunInOrder() {
    let lane = lane(threadsMax: 4)
    #expect(lane.threadCount == 0)
    let queue = lane.queue(runningMax: 1)
    let notes = Notes<Int>()
    let ended = Tally()
    for number in 0..<200 {
      queue.submit {
        notes.add(number)
        ended.add()
      }
    }
    #expect(ended.wait(for: 200))
    #expect(notes.all == Array(0..<200))
    end(lane)
  }

  @Test func aQueueThatHangsLeavesTheRestToOthers() {
    let lane = lane(threadsMax: 4)
    let (hanging, flowing) = (lane.queue(runningMax: 2), lane.queue(runningMax: 2))
    let gate = Gate()
    let (stuck, flowed) = (Tally(), Tally())
    for _ in 0..<10 {
      hanging.submit {
        stuck.add()
        gate.pass()
      }
    }
    #expect(stuck.wait(for: 2))
    for _ in 0..<50 { flowing.submit { flowed.add() } }
    #expect(flowed.wait(for: 50))
    #expect(stuck.count == 2)
    #expect(hanging.runningCount == 2)
    #expect(hanging.backlog == 8)
    #expect(flowing.backlog == 0)
    gate.open()
    #expect(stuck.wait(for: 8))
    end(lane)
  }

  @Test func queuesTakeTurns() {
    let lane = lane(threadsMax: 1)
    let (first, second, third) = (lane.queue(runningMax: 1), lane.queue(runningMax: 1), lane.queue(runningMax: 1))
    let (gate, started, ended) = (Gate(), Tally(), Tally())
    let notes = Notes<String>()
    first.submit {
      started.add()
      gate.pass()
    }
    #expect(started.wait())
    for (queue, name) in [(first, "a"), (second, "b"), (third, "c")] {
      for number in 0..<3 {
        queue.submit {
          notes.add("\(name)\(number)")
          ended.add()
        }
      }
    }
    gate.open()
    #expect(ended.wait(for: 9))
    // The queue that just ran goes to the end.
    #expect(notes.all == ["b0", "c0", "a0", "b1", "c1", "a1", "b2", "c2", "a2"])
    end(lane)
  }

  @Test func noMoreThreadsThanAllowedAreMade() {
    let lane = lane(threadsMax: 3)
    let queue = lane.queue(runningMax: 100)
    let (gate, started, ended) = (Gate(), Tally(), Tally())
    for _ in 0..<20 {
      queue.submit {
        started.add()
        gate.pass()
        ended.add()
      }
    }
    #expect(started.wait(for: 3))
    #expect(lane.threadCount == 3)
    #expect(queue.runningCount == 3)
    #expect(queue.backlog == 17)
    gate.open()
    #expect(ended.wait(for: 20))
    end(lane)
  }

  @Test func idleThreadsEnd() {
    let lane = lane(threadsMax: 4, idleSeconds: 0)
    let queue = lane.queue(runningMax: 4)
    let ended = Tally()
    for _ in 0..<50 { queue.submit { ended.add() } }
    #expect(ended.wait(for: 50))
    #expect(eventually { lane.threadCount == 0 })
    queue.submit { ended.add() }
    #expect(ended.wait())
    end(lane)
  }

  @Test func aClosedOrDroppedQueueRunsWhatItHas() {
    let lane = lane(threadsMax: 1)
    let (gate, started, ended) = (Gate(), Tally(), Tally())
    let closed = lane.queue(runningMax: 1)
    closed.submit {
      started.add()
      gate.pass()
    }
    #expect(started.wait())
    closed.submit { ended.add() }
    closed.close()
    closed.close()
    lane.queue(runningMax: 1).submit { ended.add() }
    gate.open()
    #expect(ended.wait(for: 2))
    end(lane)
    #expect(closed.backlog == 0)
  }

  @Test func aJobReleasesWhatItHeldWhenItIsOver() {
    final class Held: Sendable {}
    let lane = lane(threadsMax: 1)
    let queue = lane.queue(runningMax: 1)
    let ended = Tally()
    weak var held: Held?
    do {
      let strong = Held()
      held = strong
      queue.submit { withExtendedLifetime(strong) { ended.add() } }
    }
    #expect(ended.wait())
    #expect(eventually { held == nil })
    end(lane)
  }

  @Test func noJobIsLostWhenNoThreadCanBeMade() {
    let spawner = Spawner(failures: 4)
    let lane = lane(threadsMax: 2, spawn: spawner.spawn)
    let queue = lane.queue(runningMax: 2)
    let ended = Tally()
    for _ in 0..<10 { queue.submit { ended.add() } }
    #expect(ended.wait(for: 10))
    #expect(spawner.failed == 4)
    end(lane)
  }

  @Test(arguments: [0, 3600])
  func nothingIsLostUnderLoad(idleSeconds: Int) throws {
    let lane = lane(threadsMax: 3, idleSeconds: idleSeconds)
    let queues = [1, 2, 3].map { lane.queue(runningMax: $0) }
    let running = (0..<3).map { _ in Running() }
    let ended = Tally()
    for _ in 0..<3 {
      try PosixThread.spawn(name: "submitter") {
        for number in 0..<600 {
          queues[number % 3].submit {
            running[number % 3].enter()
            if number % 7 == 0 { queues[(number + 1) % 3].submit { ended.add() } }
            running[number % 3].leave()
            ended.add()
          }
        }
      }
    }
    let extra = (0..<600).filter { $0 % 7 == 0 }.count
    try #require(ended.wait(for: 3 * (600 + extra)))
    for (index, each) in running.enumerated() { #expect(each.peak <= index + 1) }
    end(lane)
  }
}

private final class Running: Sendable {
  private let now = Atomic<Int>(0)
  private let highest = Atomic<Int>(0)

  var peak: Int { highest.load(ordering: .relaxed) }

  func enter() { highest.max(now.add(1, ordering: .relaxed).newValue, ordering: .relaxed) }

  func leave() { now.subtract(1, ordering: .relaxed) }
}
