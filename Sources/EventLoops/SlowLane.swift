// The slow lane: a bounded number of threads for what blocks, shared by queues of which none can take them all.

import DequeModule
import Locking
import Syscalls
import SystemPackage

/// Runs the jobs of its queues: of one queue in their order (ends may overtake when several may run), between queues one job
/// in turn.
package final class SlowLane: Sendable {
  package typealias Job = @Sendable () -> Void

  private struct Line {
    let runningMax: Int
    var jobs = Deque<Job>()
    var running = 0
    /// In `ready`, exactly when a job waits and one more may run.
    var isReady = false
    var isClosed = false
  }

  private struct State {
    var lines: [Int: Line] = [:]
    var ready = Deque<Int>()
    var nextID = 0
  }

  private let crew: ThreadCrew
  private let state = Locked(State())

  /// No thread is made before the first job; a thread without a job for `idleSeconds` ends. `spawn` is for tests.
  package init(
    name: String, threadsMax: Int, idleSeconds: Int, spawn: @escaping PosixThread.Spawn = PosixThread.spawn
  ) {
    crew = ThreadCrew(name: name, threadsMax: threadsMax, idleMilliseconds: idleSeconds * 1000, spawn: spawn)
  }

  /// A queue of which at most `runningMax` jobs run at the same time.
  package func queue(runningMax: Int) -> Queue {
    precondition(runningMax > 0, "a queue runs its jobs")
    let id = state.withLock { state in
      state.nextID += 1
      state.lines[state.nextID] = Line(runningMax: runningMax)
      return state.nextID
    }
    return Queue(lane: self, id: id)
  }

  /// Threads that exist.
  package var threadCount: Int { crew.threadCount }

  /// From now on threads end when no job waits. What is queued, or is submitted later, is still run.
  package func shutDown() { crew.shutDown() }

  /// After `shutDown`: waits until all threads have ended. False when some had not after `milliseconds`. Not in a job.
  package func join(milliseconds: Int) -> Bool { crew.join(milliseconds: milliseconds) }

  /// One line in front of the lane. Dropping it closes it.
  package final class Queue: Sendable {
    private let lane: SlowLane
    private let id: Int

    fileprivate init(lane: SlowLane, id: Int) {
      self.lane = lane
      self.id = id
    }

    deinit { close() }

    /// Any thread. Not after `close`.
    package func submit(_ job: @escaping Job) { lane.submit(job, to: id) }

    /// Jobs that have not been started.
    package var backlog: Int { lane.state.withLock { $0.lines[id]?.jobs.count ?? 0 } }

    /// Jobs that run.
    package var runningCount: Int { lane.state.withLock { $0.lines[id]?.running ?? 0 } }

    /// Takes no more jobs; those submitted still run. Again is fine.
    package func close() { lane.close(id) }
  }

  // MARK: Lines

  private func submit(_ job: @escaping Job, to id: Int) {
    let isReady = state.withLock { state in
      precondition(state.lines[id]?.isClosed == false, "a closed queue takes no jobs")
      state.lines[id]!.jobs.append(job)
      SlowLane.settle(id, &state)
      return state.lines[id]!.isReady
    }
    // Else those that run its jobs will find it.
    if isReady { wakeOne() }
  }

  private func close(_ id: Int) {
    state.withLock { state in
      if state.lines[id] == nil { return }
      state.lines[id]!.isClosed = true
      SlowLane.settle(id, &state)
    }
  }

  /// Puts a line where it belongs after a change: at the end of the ready ones, or away when it is over.
  private static func settle(_ id: Int, _ state: inout State) {
    guard var line = state.lines[id] else { return }
    if line.jobs.isEmpty && line.running == 0 && line.isClosed {
      state.lines[id] = nil
      return
    }
    if line.isReady || line.jobs.isEmpty || line.running >= line.runningMax { return }
    line.isReady = true
    state.lines[id] = line
    state.ready.append(id)
  }

  // MARK: Threads

  private func wakeOne() {
    switch crew.wakeOne(body: { self.work() }) {
    case .woken, .notWoken: return
    case .failed: crew.retryLater { [self] in lookAgain() }
    }
  }

  private func lookAgain() {
    let isReady = state.withLock { !$0.ready.isEmpty }
    if isReady { wakeOne() }
  }

  private func work() {
    let seat = ThreadCrew.Seat()
    repeat {
      var finished: Int?
      while let (id, job) = next(after: finished) {
        job()
        finished = id
      }
    } while crew.park(seat, lastLook: lookAgain)
  }

  private func next(after finished: Int?) -> (Int, Job)? {
    state.withLock { state in
      if let finished {
        state.lines[finished]!.running -= 1
        SlowLane.settle(finished, &state)
      }
      guard let id = state.ready.popFirst() else { return nil }
      state.lines[id]!.isReady = false
      state.lines[id]!.running += 1
      let job = state.lines[id]!.jobs.removeFirst()
      SlowLane.settle(id, &state)
      return (id, job)
    }
  }
}
