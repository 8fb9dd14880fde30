// What is sent is decided by the seed, and stays inside what was asked for.

import Oracle
import Testing

@testable import Torture

@Suite struct PlanTests {
  @Test func theSameSeedAsksForTheSame() {
    func plan(_ seed: UInt64) -> [String] {
      var planner = Planner(shape: Shape(), seed: seed, connection: 1, of: 4, tag: 3)
      return (0..<200).map { _ in
        let request = planner.next()
        return "\(request.id) \(request.verb) \(request.blocks) \(request.fua) \(request.noHole)"
      }
    }
    #expect(plan(7) == plan(7))
    #expect(plan(7) != plan(8))
  }

  @Test func requestsStayInTheRegionAndOnTheirBlocks() {
    var shape = Shape()
    shape.regionBytes = 1 << 20
    shape.blockBytes = 2048
    shape.lengthBytesMin = 2048
    shape.lengthBytesMax = 32 << 10
    var ids: Set<UInt64> = []
    for connection in 0..<3 {
      var planner = Planner(shape: shape, seed: 11, connection: connection, of: 3, tag: 5)
      for _ in 0..<3000 {
        let request = planner.next()
        #expect(ids.insert(request.id).inserted)
        guard request.verb != .flush else { continue }
        #expect(!request.blocks.isEmpty && request.blocks.upperBound <= 2048)
        #expect(request.blocks.lowerBound % 4 == 0 && request.blocks.count % 4 == 0)
      }
    }
  }

  @Test(arguments: ["", "write,", "write,write", "dance", "write:0", "write:x", "write:1:2"])
  func mixThatIsNoneIsRefused(text: String) {
    #expect(Mix(parsing: text) == nil)
  }

  @Test func weightsOfAMixCanBeGiven() {
    #expect(Mix(parsing: "read:3,write:5") == Mix([.read: 3, .write: 5]))
    #expect(Mix(parsing: "read,flush:9") == Mix([.read: 800, .flush: 9]))
  }

  @Test func runsOfSettledContentAreMerged() {
    var settled = Settled(blocks: 10)
    settled.set(Run(1..<4, .written(by: 7)))
    settled.set(Run(4..<6, .written(by: 7)))
    settled.set(Run(6..<7, .broken))
    #expect(settled.writtenRuns.map(\.blocks) == [1..<6, 6..<7])
    #expect(settled.writtenRuns.map(\.id) == [7, nil])
  }
}
