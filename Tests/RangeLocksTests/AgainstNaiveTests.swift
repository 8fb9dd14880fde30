// The table does what the naive one does.

import Oracle
import RangeLocks
import Testing

@Suite struct AgainstNaiveTests {
  struct Shape: CustomTestStringConvertible {
    var name: String
    var steps: Int
    /// About this many requests at a time.
    var population: Int
    var blocks: UInt64
    var lengthMax: UInt64
    var sharedPercent: Int
    var checksEachStep: Bool

    var testDescription: String { name }
  }

  static let shapes = [
    Shape(
      name: "few, crowded", steps: 4000, population: 6, blocks: 8, lengthMax: 4, sharedPercent: 50, checksEachStep: true
    ),
    Shape(
      name: "one block", steps: 2000, population: 16, blocks: 1, lengthMax: 1, sharedPercent: 30, checksEachStep: true),
    Shape(
      name: "mostly shared", steps: 2000, population: 24, blocks: 32, lengthMax: 16, sharedPercent: 90,
      checksEachStep: true),
    Shape(
      name: "wide over narrow", steps: 2000, population: 100, blocks: 200, lengthMax: 200, sharedPercent: 50,
      checksEachStep: false),
    Shape(
      name: "many, sparse", steps: 4000, population: 200, blocks: 4000, lengthMax: 8, sharedPercent: 50,
      checksEachStep: false),
  ]

  @Test(arguments: shapes) func grantsWhatTheNaiveTableGrants(_ shape: Shape) {
    let seed = UInt64.random(in: 0 ... .max)
    print("seed \(seed) of \(shape.name)")
    runRandomSteps(shape, seed: seed)
  }

  private func runRandomSteps(_ shape: Shape, seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var pair = PairOfTables()
    for step in 0..<shape.steps {
      let count = pair.naive.requests.count
      if Int.random(in: 0..<(2 * shape.population), using: &random) >= count {
        let start = UInt64.random(in: 0..<shape.blocks, using: &random)
        let length = UInt64.random(in: 1...shape.lengthMax, using: &random)
        let isShared = Int.random(in: 0..<100, using: &random) < shape.sharedPercent
        pair.acquire(start..<(start + length), isShared ? .shared : .exclusive)
      } else {
        pair.end(pair.naive.requests[Int.random(in: 0..<count, using: &random)].id)
      }
      if shape.checksEachStep || step % 100 == 0 { pair.checkInvariants() }
    }
    while let next = pair.naive.requests.randomElement(using: &random) {
      pair.end(next.id)
      if shape.checksEachStep { pair.checkInvariants() }
    }
  }

  /// Every range and mode of three requests on three blocks, and every order of their arrivals and ends.
  @Test func threeRequestsOnThreeBlocksInEveryOrder() {
    var kinds: [(Range<UInt64>, Mode)] = []
    for start in 0..<UInt64(3) {
      for end in (start + 1)...3 { kinds += [(start..<end, .shared), (start..<end, .exclusive)] }
    }
    let orders = Self.orders(arrived: 0, open: [])
    #expect(orders.count == 15)
    for first in kinds {
      for second in kinds {
        for third in kinds {
          for order in orders { run(order, [first, second, third]) }
        }
      }
    }
  }

  private enum Step {
    case arrival(Int)
    case end(Int)
  }

  private static func orders(arrived: Int, open: [Int]) -> [[Step]] {
    if arrived == 3, open.isEmpty { return [[]] }
    var found: [[Step]] = []
    if arrived < 3 {
      found += orders(arrived: arrived + 1, open: open + [arrived]).map { [.arrival(arrived)] + $0 }
    }
    for each in open {
      found += orders(arrived: arrived, open: open.filter { $0 != each }).map { [.end(each)] + $0 }
    }
    return found
  }

  private func run(_ order: [Step], _ requests: [(Range<UInt64>, Mode)]) {
    var pair = PairOfTables()
    for step in order {
      switch step {
      case .arrival(let index): pair.acquire(requests[index].0, requests[index].1)
      case .end(let index): pair.end(index)
      }
      pair.checkInvariants()
    }
  }
}
