// A balanced tree of half-open ranges whose nodes are slots of one flat array, so that neither insertion nor removal
// allocates.

/// The index of a node in the flat array. Zero is the node that stands for "none".
typealias Slot = Int32

/// One request: its range, its arrival number, and the summary of everything below it.
struct Node {
  /// First byte and first byte after.
  var start: UInt64 = 0
  var end: UInt64 = 0
  /// Unique and rising; zero in a free slot.
  var arrival: UInt64 = 0

  /// Largest end of this node and all below it.
  var endMax: UInt64 = 0
  /// Earliest arrival of this node and all below it.
  var arrivalMin: UInt64 = .max
  /// No less than the latest arrival of this node and all below it. It stays when the latest ends, as that is what most
  /// requests are when they end, and it is only a hint: lowering it up to the root would cost a fifth of an uncontended lock.
  var arrivalMax: UInt64 = 0

  var parent: Slot = 0
  var left: Slot = 0
  var right: Slot = 0
  var height: UInt8 = 0
  var mode: RangeLockTable.Mode = .shared

  /// Slot zero: its summary changes no maximum and no minimum, so that missing children need no special case.
  static let none = Node()

  init() {}

  /// A leaf.
  init(_ range: Range<UInt64>, _ mode: RangeLockTable.Mode, arrival: UInt64) {
    start = range.lowerBound
    end = range.upperBound
    self.arrival = arrival
    endMax = end
    arrivalMin = arrival
    arrivalMax = arrival
    height = 1
    self.mode = mode
  }
}

/// An AVL tree ordered by (start, arrival); each node carries the summary of its subtree. The nodes are the caller's.
struct IntervalTree {
  private(set) var root: Slot = 0

  /// Adds the leaf `new`, which arrived after everything in the tree.
  mutating func insert(_ new: Slot, in array: inout [Node]) {
    var nodes = array.mutableSpan
    let leaf = nodes[Int(new)]
    var parent: Slot = 0
    var next = root
    var goesLeft = false
    while next != 0 {
      parent = next
      // Widening the summaries on the way down spares the way up: `repair` stops at the first that is right.
      nodes[Int(parent)].endMax = max(nodes[Int(parent)].endMax, leaf.end)
      nodes[Int(parent)].arrivalMax = leaf.arrival
      goesLeft = leaf.start < nodes[Int(parent)].start
      next = goesLeft ? nodes[Int(parent)].left : nodes[Int(parent)].right
    }
    nodes[Int(new)].parent = parent
    if parent == 0 {
      root = new
    } else if goesLeft {
      nodes[Int(parent)].left = new
    } else {
      nodes[Int(parent)].right = new
    }
    repair(from: parent, in: &nodes)
  }

  /// Takes `old` out; its own links are left as they were.
  mutating func remove(_ old: Slot, in array: inout [Node]) {
    var nodes = array.mutableSpan
    let removed = nodes[Int(old)]
    guard removed.left != 0, removed.right != 0 else {
      replace(old, of: removed.parent, with: removed.left != 0 ? removed.left : removed.right, in: &nodes)
      repair(from: removed.parent, in: &nodes)
      return
    }
    //        old                  heir
    //       /   \                /    \
    //      l     r      ->      l      r
    //           / \                   / \
    //        heir  .                 x   .
    //           \
    //            x
    var heir = removed.right
    while nodes[Int(heir)].left != 0 { heir = nodes[Int(heir)].left }
    let lowestChanged = nodes[Int(heir)].parent
    replace(heir, of: lowestChanged, with: nodes[Int(heir)].right, in: &nodes)
    replace(old, of: removed.parent, with: heir, in: &nodes)
    // Read again: the right child is gone when it was the heir.
    let right = nodes[Int(old)].right
    nodes[Int(heir)].left = removed.left
    nodes[Int(heir)].right = right
    nodes[Int(removed.left)].parent = heir
    if right != 0 { nodes[Int(right)].parent = heir }
    nodes[Int(heir)].height = removed.height
    nodes[Int(heir)].endMax = removed.endMax
    nodes[Int(heir)].arrivalMin = removed.arrivalMin
    nodes[Int(heir)].arrivalMax = removed.arrivalMax
    if lowestChanged != old { repair(from: lowestChanged, in: &nodes) }
    // The heir still carries the summary of the removed node if the first repair stopped below it.
    repair(from: heir, in: &nodes)
  }

  /// Puts `new` (or nothing) where `old` hangs below `parent` (or at the root).
  private mutating func replace(_ old: Slot, of parent: Slot, with new: Slot, in nodes: inout MutableSpan<Node>) {
    if parent == 0 {
      root = new
    } else if nodes[Int(parent)].left == old {
      nodes[Int(parent)].left = new
    } else {
      nodes[Int(parent)].right = new
    }
    if new != 0 { nodes[Int(new)].parent = parent }
  }

  /// Restores balance and summaries from `lowest` towards the root, as far as they change (`arrivalMax` aside).
  private mutating func repair(from lowest: Slot, in nodes: inout MutableSpan<Node>) {
    var at = lowest
    while at != 0 {
      let before = nodes[Int(at)]
      let left = nodes[Int(before.left)].height
      let right = nodes[Int(before.right)].height
      var top = at
      if left > right + 1 {
        if nodes[Int(nodes[Int(before.left)].left)].height < nodes[Int(nodes[Int(before.left)].right)].height {
          rotateLeft(before.left, in: &nodes)
        }
        top = rotateRight(at, in: &nodes)
      } else if right > left + 1 {
        if nodes[Int(nodes[Int(before.right)].right)].height < nodes[Int(nodes[Int(before.right)].left)].height {
          rotateRight(before.right, in: &nodes)
        }
        top = rotateLeft(at, in: &nodes)
      } else {
        summarize(at, in: &nodes)
      }
      let after = nodes[Int(top)]
      if after.height == before.height, after.endMax == before.endMax, after.arrivalMin == before.arrivalMin {
        return
      }
      at = after.parent
    }
  }

  /// The left child takes the place of `top`. Returns it.
  @discardableResult
  private mutating func rotateRight(_ top: Slot, in nodes: inout MutableSpan<Node>) -> Slot {
    let riser = nodes[Int(top)].left
    let inner = nodes[Int(riser)].right
    replace(top, of: nodes[Int(top)].parent, with: riser, in: &nodes)
    nodes[Int(top)].left = inner
    if inner != 0 { nodes[Int(inner)].parent = top }
    nodes[Int(riser)].right = top
    nodes[Int(top)].parent = riser
    summarize(top, in: &nodes)
    summarize(riser, in: &nodes)
    return riser
  }

  /// The right child takes the place of `top`. Returns it.
  @discardableResult
  private mutating func rotateLeft(_ top: Slot, in nodes: inout MutableSpan<Node>) -> Slot {
    let riser = nodes[Int(top)].right
    let inner = nodes[Int(riser)].left
    replace(top, of: nodes[Int(top)].parent, with: riser, in: &nodes)
    nodes[Int(top)].right = inner
    if inner != 0 { nodes[Int(inner)].parent = top }
    nodes[Int(riser)].left = top
    nodes[Int(top)].parent = riser
    summarize(top, in: &nodes)
    summarize(riser, in: &nodes)
    return riser
  }

  private func summarize(_ at: Slot, in nodes: inout MutableSpan<Node>) {
    let left = Int(nodes[Int(at)].left)
    let right = Int(nodes[Int(at)].right)
    let at = Int(at)
    nodes[at].height = 1 + max(nodes[left].height, nodes[right].height)
    nodes[at].endMax = max(nodes[at].end, nodes[left].endMax, nodes[right].endMax)
    nodes[at].arrivalMin = min(nodes[at].arrival, nodes[left].arrivalMin, nodes[right].arrivalMin)
    nodes[at].arrivalMax = max(nodes[at].arrival, nodes[left].arrivalMax, nodes[right].arrivalMax)
  }
}
