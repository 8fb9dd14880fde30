// What a BLOCK_STATUS reply may say: rows A7.14 to A7.17.

import Testing

@testable import NBDProtocol

struct StatusDescriptorTests {
  static let hole: AllocationStatus = [.hole, .zero]

  static func request(_ length: UInt32, _ flags: CommandFlags = []) -> Request {
    Request(command: .blockStatus, flags: flags, cookie: 0, offset: 0, length: length)
  }

  static func descriptors(
    _ length: UInt32, flags: CommandFlags = [], block: UInt32 = 1, countMax: Int = StatusDescriptors.countMax,
    _ extents: [(UInt64, AllocationStatus)]
  ) -> [StatusDescriptor] {
    var all = StatusDescriptors(request: request(length, flags), blockBytesMin: block, countMax: countMax)
    for (length, status) in extents { all.append(lengthBytes: length, status: status) }
    if !all.isFull { all.finish() }
    return all.descriptors
  }

  @Test func extentsAreCutToTheRequest() {
    #expect(
      Self.descriptors(1000, [(600, []), (5000, Self.hole), (7, [])])
        == [StatusDescriptor(lengthBytes: 600, status: []), StatusDescriptor(lengthBytes: 400, status: Self.hole)])
    #expect(
      Self.descriptors(.max, [(.max, Self.hole)]) == [StatusDescriptor(lengthBytes: .max, status: Self.hole)])
  }

  @Test func equalNeighboursAreMerged() {
    #expect(
      Self.descriptors(100, [(10, []), (20, []), (0, Self.hole), (30, []), (40, Self.hole)])
        == [StatusDescriptor(lengthBytes: 60, status: []), StatusDescriptor(lengthBytes: 40, status: Self.hole)])
  }

  @Test func reqOneIsOneDescriptorWithinTheRequest() {
    #expect(
      Self.descriptors(100, flags: .reqOne, [(10, []), (20, []), (70, Self.hole)])
        == [StatusDescriptor(lengthBytes: 30, status: [])])
    #expect(Self.descriptors(100, flags: .reqOne, [(500, [])]) == [StatusDescriptor(lengthBytes: 100, status: [])])
  }

  @Test func descriptorsEndWhereTheReplyIsFull() {
    let extents = (0..<100).map { (UInt64(10), $0 % 2 == 0 ? [] : Self.hole) }
    let descriptors = Self.descriptors(1000, countMax: 7, extents)
    #expect(descriptors.count == 7)
    #expect(descriptors.allSatisfy { $0.lengthBytes == 10 })
  }

  @Test func nothingKnownIsData() {
    #expect(Self.descriptors(1000, []) == [StatusDescriptor(lengthBytes: 1000, status: [])])
    #expect(Self.descriptors(1024, block: 512, [(100, Self.hole)]) == [StatusDescriptor(lengthBytes: 1024, status: [])])
  }

  @Test func blockOfTwoKindsIsWhatBothAre() {
    // |512 hole|256 hole, 256 zero|512 zero|256 zero, 256 data|
    let extents: [(UInt64, AllocationStatus)] = [(768, Self.hole), (1024, .zero), (256, [])]
    #expect(
      Self.descriptors(2048, block: 512, extents)
        == [
          StatusDescriptor(lengthBytes: 512, status: Self.hole), StatusDescriptor(lengthBytes: 1024, status: .zero),
          StatusDescriptor(lengthBytes: 512, status: []),
        ])
  }

  @Test func randomLayoutsKeepTheRules() {
    var random = SeededGenerator(seed: printedSeed())
    for _ in 0..<2000 {
      let block = UInt32(1) << UInt32.random(in: 0...6, using: &random)
      let length = block * UInt32.random(in: 1...40, using: &random)
      let flags: CommandFlags = Bool.random(using: &random) ? .reqOne : []
      let countMax = Int.random(in: 1...20, using: &random)
      let kinds: [AllocationStatus] = [[], .zero, Self.hole]
      let extents = (0..<Int.random(in: 0...30, using: &random)).map { _ in
        (UInt64.random(in: 0...100, using: &random), kinds.randomElement(using: &random) ?? [])
      }
      // What each byte really is; beyond what was told, data.
      var bytes = extents.flatMap { Array(repeating: $0.1, count: Int($0.0)) }
      bytes += Array(repeating: [], count: max(0, Int(length) - bytes.count))

      let descriptors = Self.descriptors(length, flags: flags, block: block, countMax: countMax, extents)
      #expect((1...(flags == .reqOne ? 1 : countMax)).contains(descriptors.count))
      #expect(descriptors.allSatisfy { $0.lengthBytes > 0 && $0.lengthBytes % block == 0 })
      #expect(zip(descriptors, descriptors.dropFirst()).allSatisfy { $0.status != $1.status })
      #expect(descriptors.reduce(0) { $0 + UInt64($1.lengthBytes) } <= UInt64(length))
      var position = 0
      for descriptor in descriptors {
        for byte in bytes[position..<position + Int(descriptor.lengthBytes)] {
          #expect(byte.isSuperset(of: descriptor.status), "more is promised than is true")
        }
        position += Int(descriptor.lengthBytes)
      }
    }
  }
}
