// Finds the requests of one kind that were going on at a time and touch some blocks, without looking at all.

struct Timeline {
  /// What the search needs of a request; the rest of it stays where it is.
  private struct Entry {
    var index: Int
    var invoked: UInt64
    var completed: UInt64
    var first: Int
    var end: Int
    /// Of this entry and all before it. Ends a look into the past.
    var completedMax: UInt64
  }

  private var answered: [Entry] = []
  private var unanswered: [Entry] = []

  /// - Parameter operations: in order of invocation.
  init(_ operations: [Operation], where isWanted: (Operation) -> Bool) {
    for (index, operation) in operations.enumerated() where isWanted(operation) {
      var entry = Entry(
        index: index, invoked: operation.invoked, completed: operation.completed ?? .max,
        first: operation.blocks.lowerBound, end: operation.blocks.upperBound, completedMax: .max)
      if operation.completed == nil {
        unanswered.append(entry)
      } else {
        entry.completedMax = max(answered.last?.completedMax ?? 0, entry.completed)
        answered.append(entry)
      }
    }
  }

  /// Those that overlap `blocks`, were sent before event `end` and had not ended at event `start`.
  func requests(on blocks: Range<Int>, from start: UInt64, to end: UInt64) -> [Int] {
    var found: [Int] = []
    var position = firstPosition(from: end) - 1
    while position >= 0 {
      let entry = answered[position]
      if entry.completedMax <= start { break }
      if entry.completed > start, entry.first < blocks.upperBound, entry.end > blocks.lowerBound {
        found.append(entry.index)
      }
      position -= 1
    }
    for entry in unanswered where entry.invoked < end {
      if entry.first < blocks.upperBound, entry.end > blocks.lowerBound { found.append(entry.index) }
    }
    return found
  }

  /// The position of the first answered one that was sent at `event` or later.
  private func firstPosition(from event: UInt64) -> Int {
    var low = 0
    var high = answered.count
    while low < high {
      let middle = (low + high) / 2
      if answered[middle].invoked < event {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }
}
