// What always holds in a range lock table, one line each.

extension RangeLockTable {
  /// Stops the process when the table contradicts itself. For tests: takes O(n²).
  package func checkInvariants() {
    var live: [Slot] = []
    checkTree(exclusive.root, parent: 0, mode: .exclusive, inOrder: &live)
    let exclusiveCount = live.count
    checkTree(shared.root, parent: 0, mode: .shared, inOrder: &live)
    checkOrder(live[..<exclusiveCount])
    checkOrder(live[exclusiveCount...])
    checkSlots(live)
    let held = live.count { waiting[Int($0)].blocker == 0 }
    precondition(heldCount == held, "heldCount counts the requests that watch nobody")
    precondition(waitingCount == live.count - held, "waitingCount counts the requests that watch one")
    for slot in live { checkRequest(slot, among: live) }
  }

  private func checkTree(_ at: Slot, parent: Slot, mode: Mode, inOrder live: inout [Slot]) {
    guard at != 0 else { return }
    let node = nodes[Int(at)]
    checkTree(node.left, parent: at, mode: mode, inOrder: &live)
    live.append(at)
    checkTree(node.right, parent: at, mode: mode, inOrder: &live)
    let left = nodes[Int(node.left)]
    let right = nodes[Int(node.right)]
    precondition(node.parent == parent, "a child knows its parent")
    precondition(node.mode == mode, "a tree holds requests of one mode")
    precondition(node.start < node.end, "a range is not empty")
    precondition(node.height == 1 + max(left.height, right.height), "a node's height is right")
    precondition(abs(Int(left.height) - Int(right.height)) <= 1, "siblings' heights differ by one at most")
    precondition(node.endMax == max(node.end, left.endMax, right.endMax), "endMax is the largest end below")
    let arrivalMin = min(node.arrival, left.arrivalMin, right.arrivalMin)
    let arrivalMax = max(node.arrival, left.arrivalMax, right.arrivalMax)
    precondition(node.arrivalMin == arrivalMin, "arrivalMin is the earliest arrival below")
    precondition(node.arrivalMax >= arrivalMax, "arrivalMax is no less than the latest arrival below")
  }

  private func checkOrder(_ inOrder: ArraySlice<Slot>) {
    for (former, latter) in zip(inOrder, inOrder.dropFirst()) {
      let former = nodes[Int(former)]
      let latter = nodes[Int(latter)]
      precondition((former.start, former.arrival) < (latter.start, latter.arrival), "a tree is in order")
    }
  }

  private func checkSlots(_ live: [Slot]) {
    var freeCount = 0
    var free = firstFree
    while free != 0 {
      precondition(nodes[Int(free)].arrival == 0, "a free slot answers to no token")
      freeCount += 1
      free = nodes[Int(free)].left
    }
    precondition(nodes.count == waiting.count, "nodes and waiting have the same indices")
    precondition(1 + live.count + freeCount == nodes.count, "every slot but the first is either in a tree or free")
    let none = nodes[0]
    precondition(none.height == 0, "slot zero is an empty subtree")
    precondition((none.endMax, none.arrivalMin, none.arrivalMax) == (0, .max, 0), "slot zero's summary is neutral")
    precondition(waiting[0].firstWatcher == 0, "nobody watches slot zero")
  }

  private func checkRequest(_ slot: Slot, among live: [Slot]) {
    let blocker = waiting[Int(slot)].blocker
    let earlier = live.filter { conflict($0, slot) && nodes[Int($0)].arrival < nodes[Int(slot)].arrival }
    if blocker == 0 {
      precondition(earlier.isEmpty, "who holds its lock has no earlier conflicting request before it")
    } else {
      precondition(earlier.contains(blocker), "who waits watches an earlier conflicting request")
    }
    var listed = 0
    var previous: Slot = 0
    var watcher = waiting[Int(slot)].firstWatcher
    while watcher != 0 {
      precondition(waiting[Int(watcher)].blocker == slot, "the watchers of a request watch it")
      precondition(waiting[Int(watcher)].previous == previous, "neighbours among watchers know each other")
      listed += 1
      previous = watcher
      watcher = waiting[Int(watcher)].next
    }
    precondition(waiting[Int(slot)].lastWatcher == previous, "the list of watchers knows its end")
    let watchers = live.count { waiting[Int($0)].blocker == slot }
    precondition(listed == watchers, "whoever watches a request is among its watchers")
  }

  private func conflict(_ one: Slot, _ other: Slot) -> Bool {
    let one = nodes[Int(one)]
    let other = nodes[Int(other)]
    return one.start < other.end && other.start < one.end && (one.mode == .exclusive || other.mode == .exclusive)
  }
}
