// Bytes of which most are zero: a value, so that a copy of it is a snapshot.

/// An endless run of bytes, zero until written, stored in pages. Offsets and lengths are bytes.
package struct SparseBytes: Sendable, Equatable {
  package let pageBytes: UInt64
  private var pages: [UInt64: [UInt8]] = [:]

  /// - Parameter pageBytes: unit of storage, a power of two.
  package init(pageBytes: UInt64 = 4096) {
    precondition(pageBytes.nonzeroBitCount == 1, "a page is a power of two")
    self.pageBytes = pageBytes
  }

  /// Calls `body` for each part of `range` that lies in one page.
  private func forEachPage(of range: Range<UInt64>, _ body: (_ page: UInt64, _ part: Range<UInt64>) -> Void) {
    var offset = range.lowerBound
    while offset < range.upperBound {
      let page = offset / pageBytes
      let end = min(range.upperBound, (page + 1) * pageBytes)
      body(page, offset..<end)
      offset = end
    }
  }

  package func read(into bytes: inout MutableRawSpan, at offset: UInt64) {
    forEachPage(of: offset..<offset + UInt64(bytes.byteCount)) { page, part in
      let start = Int(part.lowerBound - offset)
      var piece = bytes._mutatingExtracting(start..<start + part.count)
      guard let stored = pages[page] else { return piece.fill(0) }
      let inPage = Int(part.lowerBound % pageBytes)
      piece.copy(stored[inPage..<inPage + part.count])
    }
  }

  package mutating func write(_ bytes: RawSpan, at offset: UInt64) {
    var pages = exchange(&self.pages, with: [:])
    forEachPage(of: offset..<offset + UInt64(bytes.byteCount)) { page, part in
      let inPage = Int(part.lowerBound % pageBytes)
      let start = Int(part.lowerBound - offset)
      let piece = [UInt8](copying: bytes.extracting(start..<start + part.count))
      pages[page, default: emptyPage].replaceSubrange(inPage..<inPage + part.count, with: piece)
    }
    self.pages = pages
  }

  /// Makes `range` zero. Pages that lie in it as a whole are given back, unless `keepingStorage`, when all are stored.
  package mutating func zero(_ range: Range<UInt64>, keepingStorage: Bool = false) {
    var pages = exchange(&self.pages, with: [:])
    forEachPage(of: range) { page, part in
      guard part.count < Int(pageBytes) else {
        pages[page] = keepingStorage ? emptyPage : nil
        return
      }
      guard keepingStorage || pages[page] != nil else { return }
      let inPage = Int(part.lowerBound % pageBytes)
      pages[page, default: emptyPage]
        .replaceSubrange(inPage..<inPage + part.count, with: repeatElement(0, count: part.count))
    }
    self.pages = pages
  }

  /// Stored pages are data, the others holes. See `BlockBackend.extents`.
  package func extents(of range: Range<UInt64>, extentsMax: Int) -> [Extent] {
    var extents: [Extent] = []
    var isFull = false
    forEachPage(of: range) { page, part in
      guard !isFull else { return }
      let kind: Extent.Kind = pages[page] == nil ? .hole : .data
      if let last = extents.indices.last, extents[last].kind == kind {
        extents[last].lengthBytes += UInt64(part.count)
      } else if extents.count < extentsMax {
        extents.append(Extent(lengthBytes: UInt64(part.count), kind: kind))
      } else {
        isFull = true
      }
    }
    return extents
  }

  private var emptyPage: [UInt8] { [UInt8](repeating: 0, count: Int(pageBytes)) }
}
