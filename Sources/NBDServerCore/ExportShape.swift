// Which part of an image an export shows, and in which steps: what clients are told about size and blocks (I9).

import BlockBackend

/// A part of an image. Locks and disks know nothing of it: behind the handshake all offsets are those of the image.
///
///     image   |--------------------------------|
///     window        offset |-- size --|            size nil: to the end, also when the image grows
package struct ExportWindow: Sendable, Equatable {
  package var offsetBytes: UInt64
  package var sizeBytes: UInt64?

  package init(offsetBytes: UInt64 = 0, sizeBytes: UInt64? = nil) {
    self.offsetBytes = offsetBytes
    self.sizeBytes = sizeBytes
  }

  package static let whole = ExportWindow()
}

/// What clients are told about block sizes. Nil: as the image says.
package struct BlockSizes: Sendable, Equatable {
  /// A power of two, at most 65536.
  package var minimum: UInt32?
  /// A power of two, at least 512 and at least the minimum.
  package var preferred: UInt32?
  /// Longest READ or WRITE; a multiple of the minimum, at least the preferred size.
  package var maximum: UInt32

  package init(minimum: UInt32? = nil, preferred: UInt32? = nil, maximum: UInt32 = ExportTable.payloadBytesMax) {
    self.minimum = minimum
    self.preferred = preferred
    self.maximum = maximum
  }
}

/// Window and block sizes, put together with what an image is.
package struct ExportShape: Sendable, Equatable {
  /// Bytes of the image.
  package let offset: UInt64
  package let sizeBytes: UInt64
  package let blockBytesMin: UInt32
  package let blockBytesPreferred: UInt32
  package let payloadBytesMax: UInt32

  /// Why `window` and `blocks` do not go with an image; a clause for the operator.
  package struct Mismatch: Error, Equatable, Sendable { package let clause: String }

  /// - Throws: the window reaches beyond the image, or the sizes contradict it or each other.
  package init(_ window: ExportWindow, _ blocks: BlockSizes, of image: Geometry) throws(Mismatch) {
    let minimum = blocks.minimum ?? image.blockBytesMin
    guard minimum >= image.blockBytesMin else {
      throw Mismatch(
        clause: "the minimum block size is \(minimum), but the image can only be addressed in blocks of "
          + "\(image.blockBytesMin)")
    }
    guard minimum.nonzeroBitCount == 1, minimum <= 65536 else {
      throw Mismatch(clause: "the minimum block size is \(minimum); it has to be a power of two up to 65536")
    }
    let preferred = max(blocks.preferred ?? image.blockBytesPreferred, minimum)
    guard preferred.nonzeroBitCount == 1, preferred >= 512 else {
      throw Mismatch(clause: "the preferred block size is \(preferred); it has to be a power of two from 512 on")
    }
    guard blocks.maximum >= preferred, blocks.maximum % minimum == 0, blocks.maximum <= ExportTable.payloadBytesMax
    else {
      throw Mismatch(
        clause: "the maximum block size is \(blocks.maximum); it has to be a multiple of \(minimum), from \(preferred) "
          + "to \(ExportTable.payloadBytesMax)")
    }
    guard window.offsetBytes % UInt64(minimum) == 0 else {
      throw Mismatch(
        clause: "the window begins at byte \(window.offsetBytes), which is no multiple of the minimum block size, "
          + "\(minimum)")
    }
    let (end, overflow) = window.offsetBytes.addingReportingOverflow(window.sizeBytes ?? 0)
    guard !overflow, end <= image.sizeBytes else {
      throw Mismatch(
        clause: "the window ends at byte \(overflow ? UInt64.max : end), behind the end of the image, "
          + "\(image.sizeBytes)")
    }
    offset = window.offsetBytes
    let size = window.sizeBytes ?? image.sizeBytes - window.offsetBytes
    // A started block at the end could not be addressed (Size constraints).
    sizeBytes = size - size % UInt64(minimum)
    blockBytesMin = minimum
    blockBytesPreferred = preferred
    payloadBytesMax = blocks.maximum
  }
}
