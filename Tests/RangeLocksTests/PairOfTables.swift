// The table and the naive one, driven together and compared after each step.

import RangeLocks
import Testing

struct PairOfTables: ~Copyable {
  private var table = RangeLockTable()
  private(set) var naive = NaiveTable()
  private var tokens: [Int: RangeLockTable.Token] = [:]
  private var ids: [RangeLockTable.Token: Int] = [:]
  private var granted: [RangeLockTable.Token] = []

  /// Returns the number of the request.
  @discardableResult
  mutating func acquire(_ range: Range<UInt64>, _ mode: Mode) -> Int {
    let (token, isGranted) = table.acquire(range, mode)
    let (id, shouldBeGranted) = naive.acquire(range, mode)
    #expect(isGranted == shouldBeGranted, "request \(id) on \(range), \(mode)")
    tokens[id] = token
    ids[token] = id
    checkCounts()
    return id
  }

  /// Releases what is held, cancels what waits.
  mutating func end(_ id: Int) {
    guard let token = tokens.removeValue(forKey: id), let request = naive.requests.first(where: { $0.id == id }) else {
      Issue.record("no request \(id)")
      return
    }
    granted.removeAll(keepingCapacity: true)
    if request.isHeld {
      table.release(token, granted: &granted)
    } else {
      table.cancel(token, granted: &granted)
    }
    ids[token] = nil
    let shouldBeGranted = naive.end(id)
    #expect(granted.map { ids[$0] } == shouldBeGranted, "after the end of request \(id) on \(request.range)")
    checkCounts()
  }

  private func checkCounts() {
    #expect(table.heldCount == naive.requests.count { $0.isHeld })
    #expect(table.waitingCount == naive.requests.count { !$0.isHeld })
  }

  func checkInvariants() { table.checkInvariants() }
}
