// Whether a worker looks for the next bytes a few times before it sleeps. Waking a sleeping thread costs more than a small
// request does; but where client and server share a CPU, spinning keeps the client from running at all. So a spin that found
// nothing makes the next ones rarer, quickly.

/// The habit of one connection. Pure.
package struct SpinPolicy: Sendable {
  /// How long one spin looks, nanoseconds: about what a sleep and a wake-up cost.
  package static let nanosecondsMax: Int64 = 50_000

  /// Whether another thread ran during one look for bytes. A look takes less than a microsecond, and the copy of what it
  /// finds goes at 4 GB/s at least; a client that needs this CPU takes some microseconds to send its next request.
  package static func wasInterrupted(after nanoseconds: Int64, receiving bytes: Int) -> Bool {
    nanoseconds > 3_000 + Int64(bytes / 4)
  }

  /// A look that brings more than this is not judged by its time: the copy may take as long as a client's turn.
  package static let timedBytesMax = 4096

  /// Turns without a spin, at most, between two attempts.
  private static let restMax = 256

  private var rest = 0
  private var nextRest = 1

  package init() {}

  /// The last spin found what it looked for: the client runs beside this worker, on a CPU of its own. Its replies are worth
  /// sending while others are made.
  package private(set) var clientRunsBeside = false

  /// A turn is over and nothing has come since: whether to look for a while.
  /// - Parameter hasIdleCPU: fewer workers are awake than there are CPUs.
  package mutating func spins(hasIdleCPU: Bool) -> Bool {
    guard hasIdleCPU else {
      clientRunsBeside = false
      return false
    }
    guard rest == 0 else {
      rest -= 1
      return false
    }
    return true
  }

  /// What a spin brought.
  package mutating func found(_ bytes: Bool) {
    clientRunsBeside = bytes
    if bytes {
      nextRest = 1
    } else {
      rest = nextRest
      nextRest = min(2 * nextRest, SpinPolicy.restMax)
    }
  }
}
