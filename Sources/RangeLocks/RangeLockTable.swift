// Who may touch which bytes of one image (invariant I5).

/// The range locks of one image. A request waits behind every earlier request that conflicts with it, granted or waiting,
/// so nothing starves. Two requests conflict when their ranges overlap and one of them is exclusive.
///
/// A value with one owner: not thread-safe, calls nothing, waits for nothing. Whoever waits keeps its token until `release`
/// or `cancel` of another hands it back as granted.
package struct RangeLockTable: ~Copyable {
  package enum Mode: Sendable {
    case shared
    case exclusive
  }

  /// Names one request from `acquire` to its `release` or `cancel`. Using it later is a precondition failure.
  package struct Token: Hashable, Sendable {
    let arrival: UInt64
  }

  private struct Request {
    var arrival: UInt64
    var range: Range<UInt64>
    var mode: Mode
    var isHeld: Bool
  }

  private var requests: [Request] = []
  private var arrivals: UInt64 = 0

  package init() {}

  /// Requests that hold their lock.
  package var heldCount: Int { requests.count { $0.isHeld } }
  /// Requests that wait.
  package var waitingCount: Int { requests.count { !$0.isHeld } }

  /// Takes the lock, or queues for it behind every earlier conflicting request.
  /// - Parameter range: bytes, half-open, not empty.
  package mutating func acquire(_ range: Range<UInt64>, _ mode: Mode) -> (token: Token, isGranted: Bool) {
    precondition(!range.isEmpty, "a range lock covers at least one byte")
    arrivals += 1
    requests.append(Request(arrival: arrivals, range: range, mode: mode, isHeld: false))
    let isGranted = !isBlocked(requests.count - 1)
    requests[requests.count - 1].isHeld = isGranted
    return (Token(arrival: arrivals), isGranted)
  }

  /// Gives a held lock back. Appends to `granted`, in arrival order, the waiters that hold theirs now.
  package mutating func release(_ token: Token, granted: inout [Token]) {
    remove(token, isHeld: true, granted: &granted)
  }

  /// Withdraws a waiting request. Appends to `granted`, in arrival order, the waiters that hold their lock now.
  package mutating func cancel(_ waiting: Token, granted: inout [Token]) {
    remove(waiting, isHeld: false, granted: &granted)
  }

  private mutating func remove(_ token: Token, isHeld: Bool, granted: inout [Token]) {
    guard let index = requests.firstIndex(where: { $0.arrival == token.arrival }) else {
      preconditionFailure("the token of a range lock is used after its release")
    }
    precondition(requests[index].isHeld == isHeld, "release is for held range locks, cancel for waiting ones")
    requests.remove(at: index)
    for index in requests.indices where !requests[index].isHeld && !isBlocked(index) {
      requests[index].isHeld = true
      granted.append(Token(arrival: requests[index].arrival))
    }
  }

  private func isBlocked(_ index: Int) -> Bool {
    let request = requests[index]
    return requests[..<index].contains {
      $0.range.overlaps(request.range) && ($0.mode == .exclusive || request.mode == .exclusive)
    }
  }

  /// Stops the process when the table contradicts itself. For tests.
  package func checkInvariants() {
    for index in requests.indices {
      precondition(requests[index].isHeld == !isBlocked(index), "held means: no earlier conflicting request")
    }
  }
}
