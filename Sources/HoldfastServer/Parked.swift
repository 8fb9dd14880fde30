// Who waits for a range lock or for a sync: a request on its way from one thread to another, or the operator's business.

import BlockBackend
import Syscalls
import SystemPackage

/// Taken out of a queue exactly once.
struct Parked: Sendable {
  enum Lane {
    case slow, effects
    /// It only wakes the thread that waits.
    case here
  }

  private enum Content {
    case job(Handoff<Job>)
    case waiter(@Sendable (Errno?) -> Void)
  }

  /// Where it runs once it holds its lock.
  let lane: Lane
  /// Since when its request waits for a lock, nanoseconds of the monotonic clock. Nil: it is none, or does not.
  let queuedNanoseconds: Int64?
  private let content: Content

  /// - Parameter isQueued: for a lock.
  init(_ job: consuming Job, isQueued: Bool = false) {
    lane = job.isLongEffect ? .effects : .slow
    queuedNanoseconds = isQueued ? MonotonicClock.nanoseconds : nil
    content = .job(Handoff(job))
  }

  /// `wake` is called on whatever thread grants the lock or ends the sync; it must not wait.
  init(waking wake: @escaping @Sendable (Errno?) -> Void) {
    lane = .here
    queuedNanoseconds = nil
    content = .waiter(wake)
  }

  /// It holds its lock.
  func run() {
    switch content {
    case .job(let job): job.take().run()
    case .waiter(let wake): wake(nil)
    }
  }

  /// The sync that it waited for has ended, with `error`.
  func answer(_ error: Errno?) {
    switch content {
    case .job(let job):
      if let error { job.take().fail(BackendError(error), doing: .sync) } else { job.take().succeed() }
    case .waiter(let wake): wake(error)
    }
  }

  /// Its place in the queue was taken back.
  func cancel() {
    switch content {
    case .job(let job): job.take().cancel()
    case .waiter: break
    }
  }
}
