// Collects the layout of a range: adjacent runs, equal neighbours merged, no more than fit.

/// The beginning of a range as extents, equal neighbours merged.
package struct FoundExtents: Sendable {
  /// Where the next one begins.
  package private(set) var end: UInt64
  package let rangeEnd: UInt64
  private let start: UInt64
  private let countMax: Int
  private var found: [Extent] = []

  package init(of range: Range<UInt64>, countMax: Int) {
    start = range.lowerBound
    end = range.lowerBound
    rangeEnd = range.upperBound
    self.countMax = countMax
  }

  /// The range is covered, or no more fit.
  package private(set) var isFull = false

  /// Nil when nothing was found.
  package var extents: [Extent]? { end > start ? found : nil }

  /// - Returns: false when there is no room for it.
  package mutating func add(_ lengthBytes: UInt64, _ kind: Extent.Kind) -> Bool {
    if let last = found.indices.last, found[last].kind == kind {
      found[last].lengthBytes += lengthBytes
    } else {
      guard found.count < countMax else {
        isFull = true
        return false
      }
      found.append(Extent(lengthBytes: lengthBytes, kind: kind))
    }
    end += lengthBytes
    return true
  }
}
