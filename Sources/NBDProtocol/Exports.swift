// What the handshake needs to know about exports; the server behind it decides which exist.

/// Names an export for the server; means nothing to the protocol, which only hands it back.
package struct ExportID: Hashable, Sendable {
  package let rawValue: UInt64
  package init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// What a client may learn about an export. A session keeps the one it was started with (I9).
package struct ExportDescription: Sendable, Equatable {
  package let id: ExportID
  /// The canonical name, as LIST tells it. At most 4096 bytes of UTF-8 without NUL.
  package let name: String
  /// For display to a human. At most 4096 bytes of UTF-8 without NUL.
  package let description: String?
  package let sizeBytes: UInt64
  /// As without SEND_DF: the handshake adds that, and HAS_FLAGS, where they belong.
  package let flags: TransmissionFlags
  /// A power of two, at most 65536; divides `sizeBytes`, else the tail could not be addressed.
  package let blockBytesMin: UInt32
  /// A power of two, at least 512 and at least `blockBytesMin`.
  package let blockBytesPreferred: UInt32
  /// Longest READ or WRITE, bytes; at least `blockBytesPreferred`, and not more than is drained of a refused WRITE.
  package let payloadBytesMax: UInt32
  /// The context `base:allocation` can be selected.
  package let offersBlockStatus: Bool
  /// Where the export begins in its image, bytes: clients count from here, locks and disks from the start of the image.
  package let imageOffset: UInt64

  /// Traps when the rules of "Size constraints" do not hold: the server has checked its configuration before.
  package init(
    id: ExportID, name: String, description: String? = nil, sizeBytes: UInt64, flags: TransmissionFlags,
    blockBytesMin: UInt32 = 1, blockBytesPreferred: UInt32 = 4096, payloadBytesMax: UInt32 = 32 << 20,
    offersBlockStatus: Bool = true, imageOffset: UInt64 = 0
  ) {
    precondition(WireString.isValid(name), "an export name is at most 4096 bytes without NUL")
    precondition(description.map(WireString.isValid) ?? true, "a description is at most 4096 bytes without NUL")
    precondition(blockBytesMin.nonzeroBitCount == 1, "the minimum block size is a power of two")
    precondition(blockBytesMin <= 65536, "the minimum block size is at most 65536")
    precondition(blockBytesPreferred.nonzeroBitCount == 1, "the preferred block size is a power of two")
    precondition(
      blockBytesPreferred >= max(blockBytesMin, 512),
      "the preferred block size is at least 512 and at least the minimum")
    precondition(payloadBytesMax >= blockBytesPreferred, "the maximum payload is at least the preferred block size")
    precondition(payloadBytesMax <= Session.drainedBytesMax, "the maximum payload is at most what is drained")
    precondition(sizeBytes % UInt64(blockBytesMin) == 0, "the size is a multiple of the minimum block size")
    precondition(!imageOffset.addingReportingOverflow(sizeBytes).overflow, "an export ends inside its image")
    self.id = id
    self.name = name
    self.description = description
    self.sizeBytes = sizeBytes
    self.flags = flags
    self.blockBytesMin = blockBytesMin
    self.blockBytesPreferred = blockBytesPreferred
    self.payloadBytesMax = payloadBytesMax
    self.offersBlockStatus = offersBlockStatus
    self.imageOffset = imageOffset
  }
}

/// The exports as one client may see them.
package protocol ExportDirectory {
  /// The export that answers to `name`; "" asks for the default export.
  func find(_ name: String) -> ExportDescription?
  /// What LIST tells, canonical names.
  var list: [(name: String, description: String?)] { get }
  /// False: LIST is answered with NBD_REP_ERR_POLICY.
  var listIsAllowed: Bool { get }
  /// Why this client may not have `export`, which it named. Nil: it may.
  func refusal(of export: ExportDescription) -> ExportRefusal?
  /// The client gets `export` now: the last word, and nothing is told before it. Nil: it has it until its connection ends.
  func take(_ export: ExportDescription) -> ExportRefusal?
}

extension ExportDirectory {
  package func refusal(of export: ExportDescription) -> ExportRefusal? { nil }
  package func take(_ export: ExportDescription) -> ExportRefusal? { nil }
}

/// Why a client does not get an export.
package enum ExportRefusal: Sendable, Equatable {
  /// There is none, or none any more.
  case unknown
  /// Not for this client, or not now (NBD_REP_ERR_POLICY); why, for a human.
  case policy(String)
}
