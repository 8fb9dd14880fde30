// What a WRITE puts into a block of 512 bytes, so that a READ tells whose block it found, and whether it is whole.

import Glibc

/// A block holds the same 16 bytes 32 times: the id of the request, then the number of the block, both as the machine has them.
package enum BlockStamp {
  package static let blockBytes = 512
  private static let stampBytes = 16

  /// Fills `bytes`, a whole number of blocks that starts at block `first` of the region.
  package static func fill(_ bytes: UnsafeMutableRawBufferPointer, id: UInt64, first: Int) {
    precondition(bytes.count % blockBytes == 0, "a payload is whole blocks")
    for block in 0..<(bytes.count / blockBytes) {
      guard let start = bytes.baseAddress?.advanced(by: block * blockBytes) else { return }
      start.storeBytes(of: id, as: UInt64.self)
      start.storeBytes(of: UInt64(first + block), toByteOffset: 8, as: UInt64.self)
      var filled = stampBytes
      while filled < blockBytes {
        memcpy(start + filled, start, filled)
        filled *= 2
      }
    }
  }

  /// The payload of a WRITE.
  package static func payload(id: UInt64, blocks: Range<Int>) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: blocks.count * blockBytes) { buffer, count in
      fill(UnsafeMutableRawBufferPointer(buffer), id: id, first: blocks.lowerBound)
      count = blocks.count * blockBytes
    }
  }

  /// What is in `bytes`, a whole number of blocks that starts at block `first` of the region.
  package static func runs(in bytes: UnsafeRawBufferPointer, first: Int) -> [Run] {
    precondition(bytes.count % blockBytes == 0, "what was read is whole blocks")
    var runs: [Run] = []
    for index in 0..<(bytes.count / blockBytes) {
      guard let start = bytes.baseAddress?.advanced(by: index * blockBytes) else { break }
      let block = first + index
      let content = content(of: start, block: block)
      if let last = runs.last, last.content == content {
        runs[runs.count - 1].blocks = last.blocks.lowerBound..<(block + 1)
      } else {
        runs.append(Run(block..<(block + 1), content))
      }
    }
    return runs
  }

  package static func runs(in bytes: [UInt8], first: Int) -> [Run] {
    bytes.withUnsafeBytes { runs(in: $0, first: first) }
  }

  private static func content(of start: UnsafeRawPointer, block: Int) -> Run.Content {
    // Equal to itself shifted by one stamp: the same stamp throughout.
    guard memcmp(start, start + stampBytes, blockBytes - stampBytes) == 0 else { return .broken }
    let id = start.loadUnaligned(as: UInt64.self)
    let place = start.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    if id == 0, place == 0 { return .zero }
    return id != 0 && place == UInt64(block) ? .written(by: id) : .misplaced
  }
}
