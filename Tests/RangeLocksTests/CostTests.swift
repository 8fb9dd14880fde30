// What contention costs, counted in tree nodes that searches look at, so that no clock is needed.

import Oracle
import RangeLocks
import Testing

#if GUARD_SWITCHES
@Suite struct CostTests {
  static let count = 10_000

  /// All requests arrive, then the oldest ends until none is left. Returns nodes looked at per request.
  private func visitsPerRequest(_ request: (UInt64) -> (Range<UInt64>, Mode)) -> Int {
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    let tokens = (0..<UInt64(Self.count)).map {
      let (range, mode) = request($0)
      return table.acquire(range, mode).token
    }
    for token in tokens { table.release(token, granted: &granted) }
    #expect(table.heldCount + table.waitingCount == 0)
    return table.searchVisits / Self.count
  }

  @Test func disjointRequestsCostAPathEach() {
    var random = SeededGenerator(seed: 5)
    let blocks = (0..<UInt64(Self.count)).shuffled(using: &random)
    #expect(visitsPerRequest { (blocks[Int($0)]..<(blocks[Int($0)] + 1), .exclusive) } <= 32)
  }

  @Test func writersOfOneBlockCostAPathEach() {
    #expect(visitsPerRequest { _ in (0..<1, .exclusive) } <= 64)
  }

  @Test func readersAndWritersOfOneBlockCostAPathEach() {
    #expect(visitsPerRequest { (0..<1, $0 % 3 == 0 ? .exclusive : .shared) } <= 64)
  }

  @Test func readersBehindOneWriterCostAPathEach() {
    #expect(visitsPerRequest { (0..<1, $0 == 0 ? .exclusive : .shared) } <= 64)
  }

  @Test func slidingWindowsCostAPathEach() {
    #expect(visitsPerRequest { ($0..<($0 + 100), .exclusive) } <= 64)
  }

  @Test func nestedRangesCostAPathEach() {
    #expect(visitsPerRequest { ($0..<(40_000 - $0), .exclusive) } <= 64)
  }

  @Test func growingRangesCostAPathEach() {
    #expect(visitsPerRequest { ((20_000 - $0)..<(20_001 + $0), .exclusive) } <= 64)
  }

  @Test func scatteredStartsOverOneBlockCostAPathEach() {
    var random = SeededGenerator(seed: 7)
    let starts = (0..<UInt64(Self.count)).shuffled(using: &random)
    #expect(visitsPerRequest { (starts[Int($0)]..<20_000, .exclusive) } <= 64)
  }

  @Test func wideReadersAndWritersInAnyPlaceCostAPathEach() {
    var random = SeededGenerator(seed: 13)
    let starts = (0..<UInt64(Self.count)).shuffled(using: &random)
    #expect(
      visitsPerRequest {
        let start = starts[Int($0)]
        return (start..<(start + 1000), $0 % 3 == 0 ? .exclusive : .shared)
      } <= 64)
  }

  @Test func wideReadersBehindNarrowWritersCostAPathEach() {
    let half = UInt64(Self.count / 2)
    #expect(
      visitsPerRequest {
        $0 < half ? ((2 * $0)..<(2 * $0 + 1), .exclusive) : ((2 * ($0 - half) + 1)..<20_000, .shared)
      } <= 64)
  }

  /// One search each time a watched request ends: a queue is a chain, not a crowd around its head.
  @Test func aWriterOfOneBlockIsWokenOnce() {
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    let tokens = (0..<Self.count).map { _ in table.acquire(0..<1, .exclusive).token }
    for token in tokens { table.release(token, granted: &granted) }
    #expect(table.searches == 2 * Self.count - 1)
  }

  @Test func cancellingWaitersInAnyOrderCostsAPathEach() {
    var random = SeededGenerator(seed: 11)
    let starts = (0..<UInt64(Self.count)).shuffled(using: &random)
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    let holder = table.acquire(0..<20_000, .exclusive).token
    let waiters = starts.map { table.acquire($0..<20_000, .exclusive).token }
    for waiter in waiters.shuffled(using: &random) { table.cancel(waiter, granted: &granted) }
    table.release(holder, granted: &granted)
    #expect(granted.isEmpty)
    #expect(table.searchVisits / Self.count <= 64)
  }
}
#endif
