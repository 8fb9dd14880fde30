// Finds whom a request has to wait behind.

/// The search for a late request that overlaps a range and arrived before a given one.
///
/// A subtree is left out when nothing in it reaches the range, nothing in it is early enough, or nothing in it is later
/// than what was found. So every subtree that is entered beside the path down holds an overlapping request: the cost is
/// O(log n) without an overlap, and at most O(log n) more for each overlapping request.
struct ConflictSearch {
  /// How many nodes may be looked at after the first find. Whoever was found will do, because a waiter searches again when
  /// the one it waits behind has ended; the latest is only the best guess at who ends last.
  private static let improvementVisitsMax = 32

  private let range: Range<UInt64>
  private let before: UInt64
  private var visitsMax = Int.max

  /// The latest one found, or zero.
  private(set) var found: Slot = 0
  private var foundArrival: UInt64 = 0
  /// Nodes looked at.
  private(set) var visits = 0

  /// - Parameters:
  ///   - range: what the found one overlaps.
  ///   - before: the arrival number that the found one's is below.
  init(range: Range<UInt64>, before: UInt64) {
    self.range = range
    self.before = before
  }

  /// Looks through the subtree at `top`.
  mutating func run(below top: Slot, in nodes: borrowing Span<Node>) {
    var at = top
    while at != 0, visits < visitsMax {
      visits += 1
      let node = nodes[Int(at)]
      guard mayImprove(node) else { return }
      guard node.start < range.upperBound else {
        at = node.left
        continue
      }
      if node.end > range.lowerBound, node.arrival < before, node.arrival > foundArrival {
        if found == 0 { visitsMax = visits + Self.improvementVisitsMax }
        found = at
        foundArrival = node.arrival
      }
      let left = nodes[Int(node.left)]
      guard mayImprove(left) else {
        at = node.right
        continue
      }
      // The side that promises the later request first: the other one is then often not worth a visit.
      if min(left.arrivalMax, before) > min(nodes[Int(node.right)].arrivalMax, before) {
        run(below: node.left, in: nodes)
        at = node.right
      } else {
        run(below: node.right, in: nodes)
        at = node.left
      }
    }
  }

  /// Whether a later find is possible in the subtree, as far as its summary tells.
  private func mayImprove(_ top: Node) -> Bool {
    top.endMax > range.lowerBound && top.arrivalMin < before && top.arrivalMax > foundArrival
  }
}
