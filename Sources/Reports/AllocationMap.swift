// What an image is made of, as a picture: a bounded number of cells, however large the image is.

package struct AllocationMap: Sendable, Equatable {
  /// What the bytes of one cell are.
  package enum Cell: UInt8, Sendable, CaseIterable {
    /// Not looked at yet, or somebody was writing to it.
    case unknown
    case hole
    /// Reads as zeroes and has storage.
    case zero
    /// Up to a quarter of it is data, up to a half, ...
    case quarter, half, most, full
  }

  package static let columns = 64
  package static let rows = 12
  package static let cellCount = columns * rows

  /// Cells end at multiples of this, which is what file systems allocate.
  private static let unitBytes: UInt64 = 4096

  package let sizeBytes: UInt64
  package private(set) var cells: [Cell]

  package init(sizeBytes: UInt64) {
    self.sizeBytes = sizeBytes
    cells = Array(repeating: .unknown, count: AllocationMap.cellCount)
  }

  /// Bytes of the image in one cell; empty behind the end of small images.
  package func range(of cell: Int) -> Range<UInt64> {
    // Rounded up, so that all cells together cover the image. No overflow: images are smaller than 2^63.
    let count = UInt64(AllocationMap.cellCount)
    let even = (sizeBytes + count - 1) / count
    let unit = AllocationMap.unitBytes
    let bytes = max(unit, (even + unit - 1) / unit * unit)
    let (start, overflow) = bytes.multipliedReportingOverflow(by: UInt64(cell))
    guard !overflow, start < sizeBytes else { return sizeBytes..<sizeBytes }
    return start..<min(sizeBytes, start + bytes)
  }

  /// Cells that have bytes.
  package var usedCount: Int { (0..<cells.count).first { range(of: $0).isEmpty } ?? cells.count }

  package mutating func set(_ cell: Int, _ value: Cell) { cells[cell] = value }

  /// What a cell of `total` bytes is, of which so many are data and so many zeroes with storage.
  package static func cell(dataBytes: UInt64, zeroBytes: UInt64, of total: UInt64) -> Cell {
    guard dataBytes > 0 else { return zeroBytes > 0 ? .zero : .hole }
    let share = Double(dataBytes) / Double(max(total, 1))
    return share <= 0.25 ? .quarter : share <= 0.5 ? .half : share <= 0.75 ? .most : .full
  }

  /// SVG for the page, with classes of its style sheet; on its own it has colours, too.
  package var svg: String {
    let (columns, rows) = (AllocationMap.columns, AllocationMap.rows)
    var text =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(columns) \(rows)\" preserveAspectRatio=\"none\" "
      + "role=\"img\" aria-label=\"allocation map\" shape-rendering=\"crispEdges\">"
    for kind in Cell.allCases {
      let path = path(of: kind)
      guard !path.isEmpty else { continue }
      text += "<path class=\"map-\(kind)\" style=\"fill:var(--map-\(kind),\(kind.color))\" d=\"\(path)\"/>"
    }
    return text + "</svg>"
  }

  /// One rectangle for each run of equal cells in a row.
  private func path(of kind: Cell) -> String {
    let used = usedCount
    var path = ""
    for row in 0..<AllocationMap.rows {
      var column = 0
      while column < AllocationMap.columns {
        let first = column
        while column < AllocationMap.columns, row * AllocationMap.columns + column < used,
          cells[row * AllocationMap.columns + column] == kind
        {
          column += 1
        }
        if column > first { path += "M\(first) \(row)h\(column - first)v1h-\(column - first)z" } else { column += 1 }
      }
    }
    return path
  }
}

extension AllocationMap.Cell {
  fileprivate var color: String {
    switch self {
    case .unknown: "#bbb"
    case .hole: "#e8ecef"
    case .zero: "#c9b458"
    case .quarter: "#a8d5ba"
    case .half: "#6fbf94"
    case .most: "#38a171"
    case .full: "#147d4f"
    }
  }
}
