// Turns the layout of a range into what a BLOCK_STATUS reply may say of it.

/// One extent in a BLOCK_STATUS reply.
package struct StatusDescriptor: Sendable, Equatable {
  /// Never 0.
  package var lengthBytes: UInt32
  package var status: AllocationStatus

  package init(lengthBytes: UInt32, status: AllocationStatus) {
    self.lengthBytes = lengthBytes
    self.status = status
  }
}

/// Collects the extents of one request, from its offset on, and keeps the rules of NBD_REPLY_TYPE_BLOCK_STATUS: none
/// empty, equal neighbours merged, boundaries on the minimum block size, nothing beyond the request (hence the sum of
/// all but the last is below it), one with REQ_ONE, at most `countMax`. A block of the minimum size that is of two
/// kinds is only what both are.
package struct StatusDescriptors: Sendable {
  /// The spec's SHOULD.
  package static let countMax = 1 << 20

  package private(set) var descriptors: [StatusDescriptor]
  private let countMax: Int
  private let blockBytes: UInt64
  /// Of the request, not yet spoken of.
  private var remainingBytes: UInt64
  /// A started block of the minimum size: how much of it is known, and what that has in common.
  private var partialBytes: UInt64 = 0
  private var partialStatus: AllocationStatus = []

  /// - Parameter countMax: descriptors that the reply has room for, at least 1.
  package init(request: Request, blockBytesMin: UInt32 = 1, countMax: Int = Self.countMax) {
    precondition(countMax >= 1, "a reply has room for at least one descriptor")
    descriptors = []
    self.countMax = request.flags.contains(.reqOne) ? 1 : min(countMax, Self.countMax)
    blockBytes = UInt64(blockBytesMin)
    remainingBytes = UInt64(request.length)
  }

  /// The request is covered or the reply is full: what is appended from now on is dropped.
  package private(set) var isFull = false

  /// The next extent, adjacent to the one before. May be longer than what was asked.
  package mutating func append(lengthBytes: UInt64, status: AllocationStatus) {
    var length = min(lengthBytes, remainingBytes)
    remainingBytes -= length
    if partialBytes > 0 && length > 0 {
      let filled = min(length, blockBytes - partialBytes)
      partialStatus.formIntersection(status)
      partialBytes += filled
      length -= filled
      if partialBytes == blockBytes {
        partialBytes = 0
        emit(blockBytes, partialStatus)
      }
    }
    let tail = length % blockBytes
    emit(length - tail, status)
    if tail > 0 {
      partialBytes = tail
      partialStatus = status
    }
    if remainingBytes == 0 { finish() }
  }

  /// Nothing more is known. A block that is known in part is left out, and if that leaves nothing, all of the request
  /// is called data, which is always a safe thing to say.
  package mutating func finish() {
    if remainingBytes == 0 {
      emit(partialBytes, partialStatus)
    } else if descriptors.isEmpty {
      emit(partialBytes + remainingBytes, [])
    }
    isFull = true
  }

  private mutating func emit(_ lengthBytes: UInt64, _ status: AllocationStatus) {
    guard lengthBytes > 0, !isFull else { return }
    // The sum is at most the length of a request, which has 32 bits.
    if let last = descriptors.last, last.status == status {
      descriptors[descriptors.count - 1].lengthBytes += UInt32(lengthBytes)
    } else if descriptors.count < countMax {
      descriptors.append(StatusDescriptor(lengthBytes: UInt32(lengthBytes), status: status))
    } else {
      isFull = true
    }
  }
}
