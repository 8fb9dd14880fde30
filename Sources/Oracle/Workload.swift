// Overlapping requests from one seed, so that a driver needs only to send and to receive.

/// What each connection sends, in order. How many it keeps in flight is the driver's choice.
package struct Workload: Sendable {
  package struct Shape: Sendable {
    package var connections = 8
    package var operationsPerConnection = 1000
    package var regionBytes = 2 << 20
    /// Lengths are spread evenly over their magnitudes (as many of 4 to 8 KiB as of 512 KiB to 1 MiB).
    package var lengthBytesMin = 4 << 10
    package var lengthBytesMax = 1 << 20
    /// Of offsets and lengths; a multiple of 512.
    package var alignmentBytes = 512
    /// Out of the sum of all four.
    package var readWeight = 4
    package var writeWeight = 4
    package var trimWeight = 1
    package var writeZeroesWeight = 1

    package init() {}
  }

  /// One request to send: `kind` at `offsetBytes` for `lengthBytes`.
  package struct Step: Sendable {
    package var id: UInt64
    package var kind: Operation.Kind
    package var blocks: Range<Int>

    package var offsetBytes: UInt64 { UInt64(blocks.lowerBound * BlockStamp.blockBytes) }
    package var lengthBytes: UInt32 { UInt32(blocks.count * BlockStamp.blockBytes) }

    /// What a WRITE sends; nothing for the others.
    package var payload: [UInt8] { kind == .write ? BlockStamp.payload(id: id, blocks: blocks) : [] }

    /// The record of this request for the history.
    /// - Parameter data: what a READ that succeeded brought.
    package func record(invoked: UInt64, completed: UInt64?, succeeded: Bool, data: [UInt8] = []) -> Operation {
      let seen = kind == .read && succeeded ? BlockStamp.runs(in: data, first: blocks.lowerBound) : []
      return Operation(
        id: id, kind: kind, blocks: blocks, invoked: invoked, completed: completed, succeeded: succeeded, seen: seen)
    }
  }

  package let seed: UInt64
  /// Per connection.
  package let steps: [[Step]]

  package init(seed: UInt64, shape: Shape = Shape()) {
    self.seed = seed
    var random = SeededGenerator(seed: seed)
    var lastID: UInt64 = 0
    steps = (0..<shape.connections).map { _ in
      (0..<shape.operationsPerConnection).map { _ in
        lastID += 1
        return Step(id: lastID, kind: Self.kind(of: shape, &random), blocks: Self.blocks(of: shape, &random))
      }
    }
  }

  private static func kind(of shape: Shape, _ random: inout SeededGenerator) -> Operation.Kind {
    let weights: [(Operation.Kind, Int)] = [
      (.read, shape.readWeight), (.write, shape.writeWeight), (.trim, shape.trimWeight),
      (.writeZeroes, shape.writeZeroesWeight),
    ]
    var pick = Int.random(in: 0..<weights.reduce(0) { $0 + $1.1 }, using: &random)
    for (kind, weight) in weights {
      if pick < weight { return kind }
      pick -= weight
    }
    preconditionFailure("the pick is below the sum of the weights")
  }

  private static func blocks(of shape: Shape, _ random: inout SeededGenerator) -> Range<Int> {
    let unit = shape.alignmentBytes
    var magnitudes = 0
    while shape.lengthBytesMin << (magnitudes + 1) <= shape.lengthBytesMax { magnitudes += 1 }
    let least = shape.lengthBytesMin << Int.random(in: 0...max(0, magnitudes - 1), using: &random)
    let most = min(2 * least, shape.lengthBytesMax)
    let length = Int.random(in: (least / unit)...(most / unit), using: &random) * unit
    let offset = Int.random(in: 0...((shape.regionBytes - length) / unit), using: &random) * unit
    return (offset / BlockStamp.blockBytes)..<((offset + length) / BlockStamp.blockBytes)
  }
}
