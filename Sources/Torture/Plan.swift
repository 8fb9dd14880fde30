// Which requests a connection sends, from one seed: the same seed and shape ask for the same things again.

import Oracle

/// How often each kind of request is sent, out of the sum of all weights.
package struct Mix: Sendable, Equatable {
  package var weights: [Verb: Int]

  package init(_ weights: [Verb: Int]) { self.weights = weights }

  package static let usual = Mix([.read: 800, .write: 800, .trim: 150, .zero: 150, .status: 150, .flush: 1])

  /// `write,read,trim` with the usual weights, or `write:3,read:5` with one's own.
  package init?(parsing text: String) {
    weights = [:]
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let pieces = part.split(separator: ":", maxSplits: 1)
      guard let name = pieces.first, let verb = Verb(rawValue: String(name)), weights[verb] == nil else { return nil }
      guard pieces.count == 2 else {
        weights[verb] = Mix.usual.weights[verb]
        continue
      }
      guard let weight = Int(pieces[1]), (1...100_000).contains(weight) else { return nil }
      weights[verb] = weight
    }
  }

  func pick(_ random: inout SeededGenerator) -> Verb {
    var pick = Int.random(in: 0..<weights.values.reduce(0, +), using: &random)
    for verb in Verb.allCases {
      guard let weight = weights[verb] else { continue }
      if pick < weight { return verb }
      pick -= weight
    }
    preconditionFailure("the pick is below the sum of the weights")
  }
}

/// Where requests go and how long they are.
package struct Shape: Sendable {
  package var regionBytes = 4 << 20
  /// Of offsets and lengths; a multiple of 512.
  package var blockBytes = 4096
  /// Lengths are spread evenly over their magnitudes.
  package var lengthBytesMin = 4096
  package var lengthBytesMax = 64 << 10
  /// One of so many requests is longer, up to `longBytesMax`; 0 for none.
  package var longEvery = 200
  package var longBytesMax = 1 << 20
  package var mix = Mix.usual
  /// One of so many changes carries FUA; 0 for none.
  package var fuaEvery = 2000

  package init() {}
}

/// The requests of one connection, one after the other.
package struct Planner: Sendable {
  private let shape: Shape
  private let connection: Int
  private let connections: Int
  private let tag: UInt64
  private var random: SeededGenerator
  private var count: UInt64 = 0

  /// How many bits of an id count requests; above them stands the tag of the run.
  package static let countBits: UInt64 = 40

  /// - Parameter tag: distinguishes this run from others that have written to the same export; less than 2^22.
  package init(shape: Shape, seed: UInt64, connection: Int, of connections: Int, tag: UInt64) {
    self.shape = shape
    self.connection = connection
    self.connections = connections
    self.tag = tag
    random = SeededGenerator(seed: seed &* 0x1_0001 &+ UInt64(connection))
  }

  package mutating func next() -> Request {
    let verb = shape.mix.pick(&random)
    let blocks = verb == .flush ? 0..<0 : nextBlocks()
    let id = tag << Planner.countBits | (count * UInt64(connections) + UInt64(connection) + 1)
    count += 1
    var request = Request(id: id, verb: verb, blocks: blocks, connection: connection)
    let draw = random.next()
    if verb.changesData, shape.fuaEvery > 0 { request.fua = draw % UInt64(shape.fuaEvery) == 0 }
    if verb == .zero { request.noHole = draw >> 32 & 1 == 1 }
    return request
  }

  private mutating func nextBlocks() -> Range<Int> {
    let unit = shape.blockBytes
    let isLong = shape.longEvery > 0 && random.next() % UInt64(shape.longEvery) == 0
    let most = isLong ? shape.longBytesMax : shape.lengthBytesMax
    var magnitudes = 0
    while shape.lengthBytesMin << (magnitudes + 1) <= most { magnitudes += 1 }
    let least = shape.lengthBytesMin << Int.random(in: 0...max(0, magnitudes - 1), using: &random)
    let length = Int.random(in: (least / unit)...max(least / unit, min(2 * least, most) / unit), using: &random) * unit
    let offset = Int.random(in: 0...((shape.regionBytes - length) / unit), using: &random) * unit
    return (offset / BlockStamp.blockBytes)..<((offset + length) / BlockStamp.blockBytes)
  }
}
