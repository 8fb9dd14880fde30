// The event loop: one serial queue. Everything on it is short; what may block runs on threads of our own (WorkerPool, SlowLane).

@unsafe @preconcurrency import Dispatch
import Syscalls
import SystemPackage

/// Runs jobs one after the other, with timers and signals. Closures given to it are never isolated to an actor.
package final class EventLoop: Sendable {
  let queue: DispatchQueue
  let sockets: SocketWatch
  private let mark = DispatchSpecificKey<ObjectIdentifier>()

  package init(label: String) {
    queue = DispatchQueue(label: label)
    sockets = SocketWatch(queue: queue)
    queue.setSpecific(key: mark, value: ObjectIdentifier(self))
  }

  /// Runs `job` on the loop, after those given before. Any thread.
  package func run(_ job: @escaping @Sendable () -> Void) { queue.async(execute: job) }

  /// Whether the caller runs on this loop.
  package var isOnLoop: Bool { DispatchQueue.getSpecific(key: mark) == ObjectIdentifier(self) }

  package func preconditionOnLoop() { precondition(isOnLoop, "only on the event loop") }
}

// MARK: - Sockets

extension EventLoop {
  /// From now on, when channels and listeners become ready in quick succession, the loop asks `find` for a thread that calls
  /// `attendSockets` and `takeSocketsBack`. `find` is called on the loop; false: there is none now. Once.
  package func lendSockets(to find: @escaping @Sendable () -> Bool) { sockets.onQuickEvents(find) }

  /// Waits for channels and listeners and tells their owners, on this thread instead of the loop, until nothing has happened
  /// for `quietMilliseconds`. Each wait is made by `wait`; `told` is called after owners have been told.
  package func attendSockets(quietMilliseconds: Int, wait: (() -> Int) -> Int, told: () -> Void) {
    sockets.attend(quietMilliseconds: Int32(quietMilliseconds), wait: wait, told: told)
  }

  /// After `attendSockets`: the loop tells owners again.
  package func takeSocketsBack() { sockets.takeBack() }
}

// MARK: - Timers

extension EventLoop {
  /// Runs `body` on the loop every `milliseconds`, the first time after one interval, until cancelled. Ticks that were missed
  /// are not made up for.
  @discardableResult
  package func every(milliseconds: Int, _ body: @escaping @Sendable () -> Void) -> LoopTimer {
    LoopTimer(loop: self, milliseconds: milliseconds, repeats: true, body)
  }

  /// Runs `body` once on the loop, in `milliseconds`, unless cancelled before.
  @discardableResult
  package func after(milliseconds: Int, _ body: @escaping @Sendable () -> Void) -> LoopTimer {
    LoopTimer(loop: self, milliseconds: milliseconds, repeats: false, body)
  }

  /// Runs `body` on the loop when the process gets signal `number`, from the return of this call on; several that arrive
  /// together are one. Once per signal, for the life of the process. Throws for a signal that cannot be handled.
  package func onSignal(_ number: Int32, _ body: @escaping @Sendable () -> Void) throws(Errno) {
    let counter = try SignalCounter(number)
    let source = DispatchSource.makeReadSource(fileDescriptor: counter.descriptor, queue: queue)
    // The source lives in its own handler, for ever.
    source.setEventHandler {
      withExtendedLifetime(source) {
        if counter.take() > 0 { body() }
      }
    }
    source.activate()
  }
}

/// Held by the loop until it has fired (once) or is cancelled; dropping it cancels nothing.
package final class LoopTimer: Sendable {
  private let source: any DispatchSourceTimer

  fileprivate init(loop: EventLoop, milliseconds: Int, repeats: Bool, _ body: @escaping @Sendable () -> Void) {
    let interval = DispatchTimeInterval.milliseconds(max(milliseconds, repeats ? 1 : 0))
    source = DispatchSource.makeTimerSource(queue: loop.queue)
    source.schedule(deadline: .now() + interval, repeating: repeats ? interval : .never, leeway: .nanoseconds(0))
    // The handler holds the timer; cancelling a source releases its handlers.
    source.setEventHandler { [self] in
      if !repeats { source.cancel() }
      body()
    }
    source.activate()
  }

  /// Any thread. Called on the loop, `body` will not run any more; called elsewhere, one run may be under way.
  package func cancel() { source.cancel() }
}
