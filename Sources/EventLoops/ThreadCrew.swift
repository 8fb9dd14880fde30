// The threads under WorkerPool and SlowLane: made when needed, parked when there is nothing to do, gone when idle for long.
//
// No wake-up is lost: who adds work does so before `wakeOne`, and who parks is in the idle list before it looks for work the
// last time. Either the one sees the parked thread, or the other sees the work (and may wake itself).

@unsafe @preconcurrency import Dispatch
import Locking
import Syscalls
import SystemPackage

final class ThreadCrew: Sendable {
  /// Where one thread sleeps.
  final class Seat: Sendable {
    fileprivate let semaphore = DispatchSemaphore(value: 0)
  }

  private struct State {
    /// The last one slept least and has the warmest cache: it is woken first.
    var idle: [Seat] = []
    /// Threads that work or can be woken; at most `threadsMax`.
    var usableCount = 0
    /// Threads that have not ended yet.
    var livingCount = 0
    var isShutDown = false
    var retryIsPlanned = false
    var waitingForEnd: [DispatchSemaphore] = []
  }

  private static let retryMilliseconds = 20

  private let name: String
  private let threadsMax: Int
  private let idleMilliseconds: Int
  private let spawn: PosixThread.Spawn
  private let state = Locked(State())

  init(name: String, threadsMax: Int, idleMilliseconds: Int, spawn: @escaping PosixThread.Spawn) {
    precondition(threadsMax > 0, "a crew has threads")
    self.name = name
    self.threadsMax = threadsMax
    self.idleMilliseconds = idleMilliseconds
    self.spawn = spawn
  }

  /// Working and parked ones.
  var threadCount: Int { state.withLock { $0.usableCount } }

  enum WakeResult {
    case woken
    /// No thread is to be had, or it was not allowed: those that work will look for more.
    case notWoken
    /// The system gives no thread. Nothing else may bring the work forward: see `retryLater`.
    case failed
  }

  /// Wakes a parked thread or makes one that runs `body`, if `isAllowed`; that is asked, with the crew's lock held, only when
  /// there is a thread to be had. `body` ends when `park` says so.
  func wakeOne(if isAllowed: () -> Bool = { true }, body: @escaping @Sendable () -> Void) -> WakeResult {
    enum Choice { case wake(Seat), make, nothing }
    let choice: Choice = state.withLock { state in
      if state.idle.isEmpty && state.usableCount >= threadsMax { return .nothing }
      if !isAllowed() { return .nothing }
      if let seat = state.idle.popLast() { return .wake(seat) }
      state.usableCount += 1
      state.livingCount += 1
      return .make
    }
    switch choice {
    case .nothing: return .notWoken
    case .wake(let seat):
      seat.semaphore.signal()
      return .woken
    case .make:
      do throws(Errno) {
        try spawn(name) {
          body()
          self.ended()
        }
        return .woken
      } catch {
        state.withLock { $0.usableCount -= 1 }
        ended()
        return .failed
      }
    }
  }

  /// Sleeps until woken: true. False: this thread has been idle for long, or all are to end; `body` returns now.
  /// `lastLook` calls `wakeOne` when there is work after all; this thread can be the one that is woken.
  func park(_ seat: Seat, lastLook: () -> Void) -> Bool {
    let isShutDown = state.withLock { state in
      state.idle.append(seat)
      return state.isShutDown
    }
    lastLook()
    // The result does not matter: a signal may also mean that all are to end, and may come just after the time is over.
    _ = seat.semaphore.wait(timeout: isShutDown ? .now() : .now() + .milliseconds(idleMilliseconds))
    let wasWoken = state.withLock { state in
      guard let index = state.idle.firstIndex(where: { $0 === seat }) else { return true }
      state.idle.remove(at: index)
      state.usableCount -= 1
      return false
    }
    return wasWoken
  }

  /// Calls `body` soon; calls that come before are one.
  func retryLater(_ body: @escaping @Sendable () -> Void) {
    let isPlanned = state.withLock { state in
      defer { state.retryIsPlanned = true }
      return state.retryIsPlanned
    }
    if isPlanned { return }
    DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(ThreadCrew.retryMilliseconds)) {
      self.state.withLock { $0.retryIsPlanned = false }
      body()
    }
  }

  /// From now on a thread with nothing to do ends at once.
  func shutDown() {
    state.withLock { state in
      state.isShutDown = true
      // They stay in the list: `park` tells this from being woken by that.
      for seat in state.idle { seat.semaphore.signal() }
    }
  }

  /// Waits until all threads have ended; false when they had not after `milliseconds`.
  func join(milliseconds: Int) -> Bool {
    let deadline = DispatchTime.now() + .milliseconds(milliseconds)
    let end = DispatchSemaphore(value: 0)
    let isOver = state.withLock { state in
      if state.livingCount > 0 { state.waitingForEnd.append(end) }
      return state.livingCount == 0
    }
    return isOver || end.wait(timeout: deadline) == .success
  }

  private func ended() {
    state.withLock { state in
      state.livingCount -= 1
      if state.livingCount > 0 { return }
      for end in state.waitingForEnd { end.signal() }
      state.waitingForEnd = []
    }
  }
}
