// A file on a disk that can lose power: what is read (the page cache), what is on the medium, and a map of extents that
// write-back moves.
//
// Between two syncs the cache may write any version of a sector back at any time, so a power cut leaves each unsynced
// sector with any of its versions since the last sync, the durable one included.

import BlockBackend

struct SimulatedDisk {
  /// What the file system knows of a sector.
  enum Place: UInt8 {
    case hole
    /// Allocated and zero. What SEEK_DATA says of it depends on the page cache.
    case unwritten
    case data
  }

  let sectorBytes: Int
  let sectorCount: Int
  /// What is read.
  private(set) var seen: [UInt8]
  private(set) var durable: [UInt8]
  /// The unsynced versions of each sector one behind the other, oldest first.
  private(set) var versions: [[UInt8]]
  private(set) var places: [Place]
  /// Unwritten sectors whose pages are dirty at the moment: SEEK_DATA takes them for data.
  private(set) var looksLikeData: [Bool]
  /// The offset of the one descriptor that data and probes share when the guard of I1 is out.
  var fileOffset: UInt64 = 0
  private let keepsVersions: Bool

  init(sectorCount: Int, sectorBytes: Int, keepsVersions: Bool) {
    self.sectorCount = sectorCount
    self.sectorBytes = sectorBytes
    self.keepsVersions = keepsVersions
    seen = [UInt8](repeating: 0, count: sectorCount * sectorBytes)
    durable = seen
    versions = [[UInt8]](repeating: [], count: sectorCount)
    places = [Place](repeating: .hole, count: sectorCount)
    looksLikeData = [Bool](repeating: false, count: sectorCount)
  }

  var sizeBytes: UInt64 { UInt64(seen.count) }

  private func sectors(of range: Range<Int>) -> Range<Int> {
    range.isEmpty ? 0..<0 : range.lowerBound / sectorBytes..<(range.upperBound - 1) / sectorBytes + 1
  }

  private func bytes(of sector: Int) -> Range<Int> { sector * sectorBytes..<(sector + 1) * sectorBytes }

  // MARK: System calls

  mutating func write(_ bytes: ArraySlice<UInt8>, at offset: Int) {
    seen.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    touched(offset..<offset + bytes.count, becomes: .data)
  }

  /// Zeroes; sectors that lie in `range` as a whole become `place`.
  mutating func zero(_ range: Range<Int>, _ place: Place) {
    for index in range { seen[index] = 0 }
    let whole =
      (range.lowerBound + sectorBytes - 1)
      / sectorBytes..<max(
        (range.lowerBound + sectorBytes - 1) / sectorBytes, range.upperBound / sectorBytes)
    for sector in sectors(of: range) {
      if whole.contains(sector) {
        places[sector] = place
      } else if places[sector] == .hole && place != .hole {
        places[sector] = .unwritten
      }
      keepVersion(of: sector)
    }
  }

  mutating func allocate(_ range: Range<Int>) {
    for sector in sectors(of: range) where places[sector] == .hole { places[sector] = .unwritten }
  }

  private mutating func touched(_ range: Range<Int>, becomes place: Place) {
    for sector in sectors(of: range) {
      places[sector] = place
      keepVersion(of: sector)
    }
  }

  private mutating func keepVersion(of sector: Int) {
    if keepsVersions { versions[sector].append(contentsOf: seen[bytes(of: sector)]) }
  }

  private func isData(_ sector: Int) -> Bool {
    switch places[sector] {
    case .hole: false
    case .unwritten: looksLikeData[sector]
    case .data: true
    }
  }

  /// SEEK_DATA; nil is ENXIO.
  func seekData(from offset: UInt64) -> UInt64? {
    seek(from: offset) { isData($0) }
  }

  /// SEEK_HOLE: the end of the file counts as one.
  func seekHole(from offset: UInt64) -> UInt64? {
    offset >= sizeBytes ? nil : seek(from: offset) { !isData($0) } ?? sizeBytes
  }

  private func seek(from offset: UInt64, _ isWanted: (Int) -> Bool) -> UInt64? {
    guard offset < sizeBytes else { return nil }
    for sector in Int(offset) / sectorBytes..<sectorCount where isWanted(sector) {
      return max(offset, UInt64(sector * sectorBytes))
    }
    return nil
  }

  /// Write-back and reclaim: the map moves, nothing else.
  mutating func moveMap(_ dice: inout Dice) {
    let first = dice.below(sectorCount)
    for sector in first..<min(sectorCount, first + dice.within(1...8)) { looksLikeData[sector].toggle() }
  }

  // MARK: Durability

  /// A sync begins: how many versions of each sector it covers.
  func beginSync() -> [Int] { versions.map { $0.count / sectorBytes } }

  /// It succeeded. What was changed while it ran stays unsynced.
  mutating func completeSync(_ covered: [Int]) {
    for (sector, count) in covered.enumerated() where count > 0 { settle(sector, at: count, of: count) }
  }

  /// It failed. As Linux does it, what could not be written is struck off the books: it is still read, and no later sync
  /// will make it durable.
  mutating func failSync(_ covered: [Int], _ dice: inout Dice) {
    for (sector, count) in covered.enumerated() where count > 0 {
      settle(sector, at: dice.below(count + 1), of: count)
    }
  }

  /// Version number `index` of the oldest `count` is durable now (0: the durable one stays), and these are forgotten.
  private mutating func settle(_ sector: Int, at index: Int, of count: Int) {
    if index > 0 {
      durable.replaceSubrange(
        bytes(of: sector), with: versions[sector][(index - 1) * sectorBytes..<index * sectorBytes])
    }
    versions[sector].removeFirst(count * sectorBytes)
  }

  /// Power goes and comes back: each unsynced sector has one of its versions.
  mutating func cutPower(_ dice: inout Dice) {
    let losesAll = dice.chance(250)
    for sector in 0..<sectorCount {
      let count = versions[sector].count / sectorBytes
      if count > 0 { settle(sector, at: losesAll ? 0 : dice.below(count + 1), of: count) }
      looksLikeData[sector] = false
      let isZero = !durable[bytes(of: sector)].contains { $0 != 0 }
      places[sector] = isZero ? dice.pick([.hole, .unwritten, .data]) : .data
    }
    seen = durable
  }

  /// Sectors of which a power cut may lose something.
  var dirtySectorCount: Int { versions.count { !$0.isEmpty } }
}
