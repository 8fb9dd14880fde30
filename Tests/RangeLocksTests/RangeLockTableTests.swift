// What users of the table count on, one claim each.

import RangeLocks
import Testing

@Suite struct RangeLockTableTests {
  @Test func disjointRequestsDoNotWait() {
    var table = RangeLockTable()
    #expect(table.acquire(0..<4096, .exclusive).isGranted)
    #expect(table.acquire(4096..<8192, .exclusive).isGranted)
    #expect(table.heldCount == 2)
    table.checkInvariants()
  }

  @Test func overlappingWriteWaits() {
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    let first = table.acquire(0..<4096, .exclusive)
    let second = table.acquire(4095..<8192, .exclusive)
    #expect(!second.isGranted)
    table.release(first.token, granted: &granted)
    #expect(granted == [second.token])
    #expect(table.waitingCount == 0)
  }

  @Test func readersShare() {
    var table = RangeLockTable()
    for _ in 0..<10 { #expect(table.acquire(0..<4096, .shared).isGranted) }
    #expect(!table.acquire(0..<1, .exclusive).isGranted)
  }

  /// A stream of overlapping readers, each of which arrives before the last one ends.
  @Test func readersCannotStarveAWriter() {
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    let reader = table.acquire(0..<10, .shared)
    let writer = table.acquire(5..<6, .exclusive)
    var laterReaders: [RangeLockTable.Token] = []
    for _ in 0..<100 {
      let next = table.acquire(0..<10, .shared)
      #expect(!next.isGranted, "a reader that came after the writer waits behind it")
      laterReaders.append(next.token)
    }
    table.release(reader.token, granted: &granted)
    #expect(granted == [writer.token])
    granted = []
    table.release(writer.token, granted: &granted)
    #expect(granted == laterReaders, "all of them, in the order in which they came")
  }

  @Test func waitingIsBehindWaitersToo() {
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    let held = table.acquire(0..<10, .exclusive)
    let bridge = table.acquire(5..<25, .exclusive)
    let behindTheBridge = table.acquire(20..<30, .exclusive)
    #expect(!behindTheBridge.isGranted, "nobody holds its range, but an earlier request waits for it")
    table.release(held.token, granted: &granted)
    #expect(granted == [bridge.token])
  }

  @Test func cancelInTheMiddleGrantsExactlyWhoWaitedForItAlone() {
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    let held = table.acquire(0..<10, .exclusive)
    let bridge = table.acquire(5..<25, .exclusive)
    let onlyBehindTheBridge = table.acquire(20..<30, .shared)
    let behindBoth = table.acquire(8..<22, .shared)
    table.cancel(bridge.token, granted: &granted)
    #expect(granted == [onlyBehindTheBridge.token])
    table.checkInvariants()
    granted = []
    table.release(held.token, granted: &granted)
    #expect(granted == [behindBoth.token])
  }

  @Test func grantsAreAppended() {
    var table = RangeLockTable()
    let earlier = table.acquire(100..<101, .exclusive).token
    let held = table.acquire(0..<1, .exclusive).token
    let waiting = table.acquire(0..<1, .exclusive).token
    var granted = [earlier]
    table.release(held, granted: &granted)
    #expect(granted == [earlier, waiting])
  }

  @Test func rangesUpToTheLargestOffsetCanBeLocked() {
    var table = RangeLockTable()
    #expect(table.acquire((.max - 1)..<(.max), .exclusive).isGranted)
    #expect(table.acquire(0..<(.max - 1), .exclusive).isGranted)
    #expect(!table.acquire(0..<(.max), .shared).isGranted)
    table.checkInvariants()
  }

  @Test func uncontendedRequestsAllocateNothing() {
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    var held = (0..<64).map { table.acquire($0..<($0 + 1), .exclusive).token }
    let capacity = table.capacity
    for round in 0..<10_000 {
      table.release(held[round % 64], granted: &granted)
      let start = UInt64(round % 64)
      held[round % 64] = table.acquire(start..<(start + 1), round % 3 == 0 ? .shared : .exclusive).token
    }
    #expect(table.capacity == capacity)
    #expect(granted.capacity == 0)
  }

  @Test func anEmptyRangeIsRefused() async {
    await #expect(processExitsWith: .failure) {
      var table = RangeLockTable()
      _ = table.acquire(7..<7, .shared)
    }
  }

  @Test func aStaleTokenIsRefused() async {
    await #expect(processExitsWith: .failure) {
      var table = RangeLockTable()
      var granted: [RangeLockTable.Token] = []
      let token = table.acquire(0..<1, .shared).token
      table.release(token, granted: &granted)
      _ = table.acquire(0..<1, .shared)
      table.release(token, granted: &granted)
    }
  }

  @Test func aWaitingLockIsNotReleased() async {
    await #expect(processExitsWith: .failure) {
      var table = RangeLockTable()
      var granted: [RangeLockTable.Token] = []
      _ = table.acquire(0..<1, .exclusive)
      table.release(table.acquire(0..<1, .exclusive).token, granted: &granted)
    }
  }

  @Test func aHeldLockIsNotCancelled() async {
    await #expect(processExitsWith: .failure) {
      var table = RangeLockTable()
      var granted: [RangeLockTable.Token] = []
      table.cancel(table.acquire(0..<1, .exclusive).token, granted: &granted)
    }
  }
}
