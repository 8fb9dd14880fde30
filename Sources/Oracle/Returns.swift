// Content that comes back. A WRITE puts its content into a block once, so what a READ no longer found there no later one finds:
//
//     WRITE 1 |==|
//     TRIM         |==|
//     READ              |zeroes|
//     READ                        |by 1|   impossible, whatever the TRIM did

/// For each block the two READs that began last, among those that have ended and found different things.
struct Sightings {
  private struct Sighting {
    var content: Run.Content
    var invoked: UInt64
    var reader: Int
  }

  private var last: [Sighting?]
  private var lastOfOther: [Sighting?]

  init(blocks: Int) {
    last = Array(repeating: nil, count: blocks)
    lastOfOther = last
  }

  mutating func add(_ run: Run, reader: Int, invoked: UInt64) {
    let new = Sighting(content: run.content, invoked: invoked, reader: reader)
    for block in run.blocks {
      guard let known = last[block] else {
        last[block] = new
        continue
      }
      if known.content == new.content {
        if known.invoked < invoked { last[block] = new }
      } else if known.invoked < invoked {
        (last[block], lastOfOther[block]) = (new, known)
      } else if lastOfOther[block].map({ $0.invoked < invoked }) ?? true {
        lastOfOther[block] = new
      }
    }
  }

  /// The READ that began last, after event `moment`, and found something else than `content` in the block.
  func reader(of block: Int, findingOtherThan content: Run.Content, since moment: UInt64) -> Int? {
    guard let known = last[block] else { return nil }
    let other = known.content == content ? lastOfOther[block] : known
    guard let other, other.invoked > moment else { return nil }
    return other.reader
  }
}

/// A block of a WRITE that failed or was not answered.
struct UncertainBlock: Hashable {
  var source: Int
  var block: Int
}
