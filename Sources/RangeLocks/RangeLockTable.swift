// Who may touch which bytes of one image (invariant I5).

/// The range locks of one image. A request waits behind every earlier request that conflicts with it, granted or waiting,
/// so nothing starves. Two requests conflict when their ranges overlap and one of them is exclusive.
///
/// A waiter watches *one* earlier request that conflicts with it. When that one ends, the waiter looks for another and
/// watches it, or has its lock. So a queue of n writers on one block is a chain, and each end of a request wakes one:
///
///     held          waiting                    on the same block
///     W1  <- W2 <- W3 <- W4                    "<-" watches
///     R1, R2, R3 <- W4                         W4 looks again when R3 has ended, and finds R1 or R2 if they are still there
///
/// A value with one owner: not thread-safe, calls nothing, waits for nothing. Whoever waits keeps its token until `release`
/// or `cancel` of another hands it back as granted. Nothing is allocated unless there are more requests than ever before.
package struct RangeLockTable: ~Copyable {
  package enum Mode: UInt8, Sendable {
    case shared
    case exclusive
  }

  /// Names one request from `acquire` to its `release` or `cancel`. Using it later is a precondition failure.
  package struct Token: Hashable, Sendable {
    let arrival: UInt64
    let slot: Slot
  }

  /// Who waits behind whom. Beside the nodes, as the tree does not need it.
  struct Waiting {
    /// Whom this one watches; zero when it holds its lock.
    var blocker: Slot = 0
    /// Those who watch this one, in the order in which they began to: nearly always that of arrival.
    var firstWatcher: Slot = 0
    var lastWatcher: Slot = 0
    /// Neighbours among those who watch the same one.
    var next: Slot = 0
    var previous: Slot = 0
  }

  // Both have the same indices. A free slot has arrival 0; `left` of its node is the next free one.
  var nodes = [Node.none]
  var waiting = [Waiting()]
  var firstFree: Slot = 0

  var exclusive = IntervalTree()
  var shared = IntervalTree()
  var arrivals: UInt64 = 0

  /// Requests that hold their lock.
  package internal(set) var heldCount = 0
  /// Requests that wait.
  package internal(set) var waitingCount = 0

  /// How many requests there is room for without allocating.
  package var capacity: Int { min(nodes.capacity, waiting.capacity) - 1 }

  #if GUARD_SWITCHES
  /// Tree nodes that searches looked at: what contention costs, for tests.
  package private(set) var searchVisits = 0
  /// Searches made: one for each `acquire`, one each time a watched request ends.
  package private(set) var searches = 0
  #endif

  package init() {}

  /// Takes the lock, or queues for it behind every earlier conflicting request.
  /// - Parameter range: bytes, half-open, not empty.
  package mutating func acquire(_ range: Range<UInt64>, _ mode: Mode) -> (token: Token, isGranted: Bool) {
    precondition(!range.isEmpty, "a range lock covers at least one byte")
    arrivals += 1
    let blocker = blocker(of: range, mode, arrival: arrivals)
    let slot = takeSlot(for: Node(range, mode, arrival: arrivals))
    switch mode {
    case .shared: shared.insert(slot, in: &nodes)
    case .exclusive: exclusive.insert(slot, in: &nodes)
    }
    if blocker == 0 {
      heldCount += 1
    } else {
      watch(blocker, by: slot)
      waitingCount += 1
    }
    return (Token(arrival: arrivals, slot: slot), blocker == 0)
  }

  /// Gives a held lock back. Appends to `granted`, in arrival order, the waiters that hold theirs now.
  package mutating func release(_ token: Token, granted: inout [Token]) {
    let slot = checkedSlot(token)
    precondition(waiting[slot].blocker == 0, "only a held range lock is released; a waiting one is cancelled")
    heldCount -= 1
    end(token.slot, granted: &granted)
  }

  /// Withdraws a waiting request. Appends to `granted`, in arrival order, the waiters that hold their lock now.
  package mutating func cancel(_ waiting: Token, granted: inout [Token]) {
    let slot = checkedSlot(waiting)
    precondition(self.waiting[slot].blocker != 0, "only a waiting range lock is cancelled; a held one is released")
    waitingCount -= 1
    unwatch(waiting.slot)
    end(waiting.slot, granted: &granted)
  }

  private func checkedSlot(_ token: Token) -> Int {
    precondition(nodes[Int(token.slot)].arrival == token.arrival, "the token of a range lock is used after its end")
    return Int(token.slot)
  }

  /// Removes the request, and gives each of its watchers another one to watch, or its lock.
  private mutating func end(_ slot: Slot, granted: inout [Token]) {
    switch nodes[Int(slot)].mode {
    case .shared: shared.remove(slot, in: &nodes)
    case .exclusive: exclusive.remove(slot, in: &nodes)
    }
    var watcher = waiting[Int(slot)].firstWatcher
    giveBack(slot)
    guard watcher != 0 else { return }
    let firstGranted = granted.count
    var isInOrder = true
    while watcher != 0 {
      let next = waiting[Int(watcher)].next
      let node = nodes[Int(watcher)]
      let blocker = blocker(of: node.start..<node.end, node.mode, arrival: node.arrival)
      if blocker == 0 {
        waiting[Int(watcher)].blocker = 0
        waitingCount -= 1
        heldCount += 1
        if granted.count > firstGranted, granted[granted.count - 1].arrival > node.arrival { isInOrder = false }
        granted.append(Token(arrival: node.arrival, slot: watcher))
      } else {
        watch(blocker, by: watcher)
      }
      watcher = next
    }
    if !isInOrder { granted[firstGranted...].sort { $0.arrival < $1.arrival } }
  }

  /// An earlier request that conflicts, the latest if that is quickly found, or zero.
  private mutating func blocker(of range: Range<UInt64>, _ mode: Mode, arrival: UInt64) -> Slot {
    var search = ConflictSearch(range: range, before: arrival)
    search.run(below: exclusive.root, in: nodes.span)
    switch mode {
    case .shared: break
    case .exclusive: search.run(below: shared.root, in: nodes.span)
    }
    #if GUARD_SWITCHES
    searchVisits += search.visits
    searches += 1
    #endif
    return search.found
  }

  private mutating func watch(_ blocker: Slot, by watcher: Slot) {
    let last = waiting[Int(blocker)].lastWatcher
    waiting[Int(blocker)].lastWatcher = watcher
    if last == 0 {
      waiting[Int(blocker)].firstWatcher = watcher
    } else {
      waiting[Int(last)].next = watcher
    }
    waiting[Int(watcher)].blocker = blocker
    waiting[Int(watcher)].previous = last
    waiting[Int(watcher)].next = 0
  }

  private mutating func unwatch(_ watcher: Slot) {
    let leaving = waiting[Int(watcher)]
    if leaving.previous == 0 {
      waiting[Int(leaving.blocker)].firstWatcher = leaving.next
    } else {
      waiting[Int(leaving.previous)].next = leaving.next
    }
    if leaving.next == 0 {
      waiting[Int(leaving.blocker)].lastWatcher = leaving.previous
    } else {
      waiting[Int(leaving.next)].previous = leaving.previous
    }
  }

  private mutating func takeSlot(for node: Node) -> Slot {
    let slot = firstFree
    guard slot != 0 else {
      nodes.append(node)
      waiting.append(Waiting())
      return Slot(nodes.count - 1)
    }
    firstFree = nodes[Int(slot)].left
    nodes[Int(slot)] = node
    waiting[Int(slot)] = Waiting()
    return slot
  }

  private mutating func giveBack(_ slot: Slot) {
    nodes[Int(slot)].arrival = 0
    nodes[Int(slot)].left = firstFree
    firstFree = slot
  }
}
