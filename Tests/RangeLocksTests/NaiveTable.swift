// What a range lock table must do, written as plainly as possible.

import RangeLocks

typealias Mode = RangeLockTable.Mode

/// Requests in arrival order, named by their arrival number. Every question is answered by looking at all of them.
struct NaiveTable {
  struct Request {
    var id: Int
    var range: Range<UInt64>
    var mode: Mode
    var isHeld: Bool
  }

  private(set) var requests: [Request] = []
  private var arrivals = 0

  mutating func acquire(_ range: Range<UInt64>, _ mode: Mode) -> (id: Int, isGranted: Bool) {
    let request = Request(id: arrivals, range: range, mode: mode, isHeld: false)
    arrivals += 1
    let isGranted = !requests.contains { Self.conflict($0, request) }
    requests.append(request)
    requests[requests.count - 1].isHeld = isGranted
    return (request.id, isGranted)
  }

  /// Ends a request, held or waiting. Returns who holds its lock now.
  mutating func end(_ id: Int) -> [Int] {
    requests.removeAll { $0.id == id }
    var granted: [Int] = []
    for index in requests.indices where !requests[index].isHeld {
      if requests[..<index].contains(where: { Self.conflict($0, requests[index]) }) { continue }
      requests[index].isHeld = true
      granted.append(requests[index].id)
    }
    return granted
  }

  private static func conflict(_ one: Request, _ other: Request) -> Bool {
    one.range.overlaps(other.range) && (one.mode == .exclusive || other.mode == .exclusive)
  }
}
