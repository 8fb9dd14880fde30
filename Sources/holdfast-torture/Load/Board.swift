// What the threads of a run and the one who directs them tell each other. Nobody waits here for longer than a moment: both
// sides look every 100 us, a few hundred times in a run.

import Locking
import Synchronization
import Torture

/// What every connection does in an epoch.
struct Order: Sendable {
  /// 1, 2, …
  var number: Int
  var requestsPerConnection: Int
  /// The server has been started again.
  var reconnects = false
  /// It will be killed while the epoch lasts.
  var expectsDeath = false
}

final class Board: Sendable {
  private struct State {
    var order: Order?
    var isOver = false
    var finished = 0
    var requests: [Request] = []
    var failure: TortureFailure?
  }

  private let state = Locked(State())
  /// Requests answered in this run.
  let answered = Atomic<Int>(0)

  // MARK: - The director

  func give(_ order: Order) {
    state.withLock {
      $0.order = order
      $0.finished = 0
    }
  }

  func end() { state.withLock { $0.isOver = true } }

  /// The records of the epoch when all `threads` have finished it; nil: not yet.
  func collect(threads: Int) throws -> [Request]? {
    try state.withLock { state in
      if let failure = state.failure { throw failure }
      guard state.finished == threads else { return nil }
      let requests = state.requests
      state.requests = []
      return requests
    }
  }

  // MARK: - The threads

  /// The next order after number `last`; nil when the run is over.
  func nextOrder(after last: Int, wait: () -> Void) -> Order? {
    while true {
      let (order, isOver) = state.withLock { ($0.order, $0.isOver) }
      if isOver { return nil }
      if let order, order.number > last { return order }
      wait()
    }
  }

  func finish(_ requests: [Request]) {
    state.withLock {
      $0.requests += requests
      $0.finished += 1
    }
  }

  func fail(_ failure: TortureFailure) {
    state.withLock {
      if $0.failure == nil { $0.failure = failure }
      $0.isOver = true
    }
  }

  var isOver: Bool { state.withLock { $0.isOver } }
}
