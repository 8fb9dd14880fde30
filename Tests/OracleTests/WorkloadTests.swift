// Stamps survive the way to the block and back; workloads are what they say.

import Oracle
import Testing

@Suite struct WorkloadTests {
  @Test func stampsAreReadBack() {
    let payload = BlockStamp.payload(id: 7, blocks: 10..<14)
    #expect(payload.count == 4 * 512)
    #expect(BlockStamp.runs(in: payload, first: 10) == [Run(10..<14, .written(by: 7))])
    let zeroes = [UInt8](repeating: 0, count: 1024)
    #expect(
      BlockStamp.runs(in: zeroes + payload, first: 8) == [Run(8..<10, .zero), Run(10..<14, .written(by: 7))])
  }

  @Test func aBlockOfAnotherPlaceIsMisplaced() {
    let payload = BlockStamp.payload(id: 7, blocks: 10..<11)
    #expect(BlockStamp.runs(in: payload, first: 11) == [Run(11..<12, .misplaced)])
    #expect(BlockStamp.runs(in: [UInt8](repeating: 0xa5, count: 512), first: 0) == [Run(0..<1, .misplaced)])
  }

  @Test(arguments: [0, 1, 15, 16, 256, 511]) func aBlockWithAnyForeignByteIsBroken(_ position: Int) {
    var payload = BlockStamp.payload(id: 7, blocks: 0..<1)
    payload[position] ^= 1
    #expect(BlockStamp.runs(in: payload, first: 0) == [Run(0..<1, .broken)])
    var zeroes = [UInt8](repeating: 0, count: 512)
    zeroes[position] = 1
    #expect(BlockStamp.runs(in: zeroes, first: 0) == [Run(0..<1, .broken)])
  }

  @Test func theSameSeedIsTheSameWorkload() {
    let one = Workload(seed: 5).steps.joined().map { "\($0)" }
    let other = Workload(seed: 5).steps.joined().map { "\($0)" }
    let third = Workload(seed: 6).steps.joined().map { "\($0)" }
    #expect(one == other)
    #expect(one != third)
  }

  @Test func stepsFitTheirShape() {
    let shape = Workload.Shape()
    let steps = Array(Workload(seed: 1, shape: shape).steps.joined())
    #expect(Set(steps.map(\.id)).count == 8000)
    for step in steps {
      #expect(step.blocks.lowerBound >= 0)
      #expect(step.blocks.upperBound <= shape.regionBytes / 512)
      #expect((shape.lengthBytesMin...shape.lengthBytesMax).contains(Int(step.lengthBytes)))
    }
    for kind in Operation.Kind.allCases { #expect(steps.count { $0.kind == kind } > 500) }
    #expect(steps.count { $0.lengthBytes <= 8 << 10 } > 500)
    #expect(steps.count { $0.lengthBytes >= 512 << 10 } > 500)
  }
}
