// Whether a worker looks for the next bytes a few times before it sleeps. Waking a sleeping thread costs more than a small
// request does; but where client and server share a CPU, spinning keeps the client from running at all. So a spin that does
// not pay makes the next ones rarer, quickly.

import NBDProtocol

/// The habit of one connection while a worker holds its lease. Pure.
package struct SpinPolicy: Sendable {
  /// How long one spin looks, nanoseconds: about what a sleep and a wake-up cost.
  package static let nanosecondsMax: Int64 = 50_000

  /// Whether another thread ran during one look for bytes. A look takes less than a microsecond, and the copy of what it
  /// finds goes at 4 GB/s at least; a client that needs this CPU takes some microseconds to send its next request.
  package static func wasInterrupted(after nanoseconds: Int64, receiving bytes: Int) -> Bool {
    nanoseconds > 3_000 + Int64(bytes / 4)
  }

  /// After more than this was received at once, looks are not judged by their time: a copy may take as long as a client's turn.
  package static let timedBytesMax = 8192

  /// Of a payload, a spin has to bring this much at once or the rest: a client that sends it slowly is better waited for asleep.
  package static let payloadBytesMin = 16 * 1024

  /// Turns without a spin, at most, between two attempts.
  private static let restMax = 256

  /// Turns for which the last spin tells where the client runs; the scheduler may move it without another.
  private static let besideMax = 64

  private var rest = 0
  private var nextRest = 1
  private var beside = 0

  package init() {}

  /// A turn begins. Whether the client runs on another CPU than this worker, as far as the spins tell: its replies are worth
  /// sending while others are made.
  package mutating func clientRunsBeside() -> Bool {
    guard beside > 0 else { return false }
    beside -= 1
    return true
  }

  /// A turn is over and nothing has come since: whether to look for a while.
  /// - Parameter hasIdleCPU: fewer workers are awake than there are CPUs.
  package mutating func spins(hasIdleCPU: Bool) -> Bool {
    guard hasIdleCPU else {
      beside = 0
      return false
    }
    guard rest == 0 else {
      rest -= 1
      return false
    }
    return true
  }

  /// What a spin came to. Not called when bytes were there at the first look, which says nothing.
  /// - Parameters:
  ///   - bytes: what it brought.
  ///   - awaitsPayload: the header of their request was there already.
  ///   - endsMessage: they completed a request or an option.
  ///   - wasInterrupted: another thread needed this CPU meanwhile.
  package mutating func ended(bringing bytes: Int, awaitsPayload: Bool, endsMessage: Bool, wasInterrupted: Bool) {
    let usefulBytes = awaitsPayload ? SpinPolicy.payloadBytesMin : RequestHeader.byteCount
    if !wasInterrupted && (endsMessage || bytes >= usefulBytes) {
      nextRest = 1
      beside = SpinPolicy.besideMax
    } else {
      rest = nextRest
      nextRest = min(2 * nextRest, SpinPolicy.restMax)
      beside = 0
    }
  }
}
