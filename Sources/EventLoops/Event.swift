// Lets a thread that may sleep wait until another has done something.

@unsafe @preconcurrency import Dispatch

/// Signalled once. Never waited for on the loop, or on a worker that serves connections.
package final class Event: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)

  package init() {}

  /// Any thread; does not wait.
  package func signal() { semaphore.signal() }

  /// Sleeps until it is signalled. By one thread.
  package func wait() { semaphore.wait() }

  /// Sleeps until it is signalled: true; false when it had not been after `milliseconds`. By one thread.
  package func wait(milliseconds: Int) -> Bool {
    semaphore.wait(timeout: .now() + .milliseconds(milliseconds)) == .success
  }
}
