// Whether a worker looks for the next request a few times before it sleeps in `recv`. Waking a sleeping thread costs more
// than a small request does; but where client and server share a CPU, spinning keeps the client from running at all.
// So a spin that found nothing makes the next ones rarer, quickly. And a client that keeps several requests in flight has
// other replies to deal with: while the worker sleeps, more of its requests come together.

/// The habit of one connection. Pure.
package struct SpinPolicy: Sendable {
  /// How long one spin looks, nanoseconds: about what a sleep and a wake-up cost.
  package static let nanosecondsMax: Int64 = 50_000

  /// Whether another thread ran during one look for bytes. A look takes less than a microsecond, and the copy of what it
  /// finds goes at 4 GB/s at least; a client that needs this CPU takes some microseconds to send its next request.
  package static func wasInterrupted(after nanoseconds: Int64, receiving bytes: Int) -> Bool {
    nanoseconds > 3_000 + Int64(bytes / 4)
  }

  /// Turns that moved more than this are bulk: the client is busy copying, and needs the CPU.
  package static let turnBytesMax = 128 * 1024

  /// Turns without a spin, at most, between two attempts.
  private static let restMax = 256

  /// Turns without a spin after one with several requests: they do not always come together.
  private static let pipeliningRest = 32

  private var rest = 0
  private var nextRest = 1

  package init() {}

  /// A turn is over and nothing has come since.
  /// - Parameters:
  ///   - turnBytes: received and sent in it.
  ///   - isLone: it was one request.
  ///   - hasIdleCPU: fewer workers are awake than there are CPUs.
  package mutating func spins(afterTurnOf turnBytes: Int, isLone: Bool, hasIdleCPU: Bool) -> Bool {
    guard isLone else {
      rest = max(rest, SpinPolicy.pipeliningRest)
      return false
    }
    guard hasIdleCPU, turnBytes <= SpinPolicy.turnBytesMax else { return false }
    guard rest == 0 else {
      rest -= 1
      return false
    }
    return true
  }

  /// What a spin brought.
  package mutating func found(_ bytes: Bool) {
    if bytes {
      nextRest = 1
    } else {
      rest = nextRest
      nextRest = min(2 * nextRest, SpinPolicy.restMax)
    }
  }
}
