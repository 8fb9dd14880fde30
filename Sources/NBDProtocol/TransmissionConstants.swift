// Numbers of the transmission phase, by the names of the spec ("Values", "Transmission phase").

/// What a client is told about an export ("Transmission flags").
package struct TransmissionFlags: OptionSet, Hashable, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let hasFlags = TransmissionFlags(rawValue: 1 << 0)
  package static let readOnly = TransmissionFlags(rawValue: 1 << 1)
  package static let sendFlush = TransmissionFlags(rawValue: 1 << 2)
  package static let sendFUA = TransmissionFlags(rawValue: 1 << 3)
  package static let rotational = TransmissionFlags(rawValue: 1 << 4)
  package static let sendTrim = TransmissionFlags(rawValue: 1 << 5)
  package static let sendWriteZeroes = TransmissionFlags(rawValue: 1 << 6)
  package static let sendDF = TransmissionFlags(rawValue: 1 << 7)
  package static let canMultiConn = TransmissionFlags(rawValue: 1 << 8)
  package static let sendResize = TransmissionFlags(rawValue: 1 << 9)
  package static let sendCache = TransmissionFlags(rawValue: 1 << 10)
  package static let sendFastZero = TransmissionFlags(rawValue: 1 << 11)

  /// Each flag with the spec's name.
  package static let specNames: [(flag: TransmissionFlags, name: String)] = [
    (.hasFlags, "NBD_FLAG_HAS_FLAGS"), (.readOnly, "NBD_FLAG_READ_ONLY"), (.sendFlush, "NBD_FLAG_SEND_FLUSH"),
    (.sendFUA, "NBD_FLAG_SEND_FUA"), (.rotational, "NBD_FLAG_ROTATIONAL"), (.sendTrim, "NBD_FLAG_SEND_TRIM"),
    (.sendWriteZeroes, "NBD_FLAG_SEND_WRITE_ZEROES"), (.sendDF, "NBD_FLAG_SEND_DF"),
    (.canMultiConn, "NBD_FLAG_CAN_MULTI_CONN"), (.sendResize, "NBD_FLAG_SEND_RESIZE"),
    (.sendCache, "NBD_FLAG_SEND_CACHE"), (.sendFastZero, "NBD_FLAG_SEND_FAST_ZERO"),
  ]
}

/// What a client can ask for in transmission ("Request types").
package enum Command: UInt16, CaseIterable, Sendable {
  case read = 0
  case write = 1
  case disconnect = 2
  case flush = 3
  case trim = 4
  case cache = 5
  case writeZeroes = 6
  case blockStatus = 7

  /// The spec's name.
  package var specName: String {
    switch self {
    case .read: "NBD_CMD_READ"
    case .write: "NBD_CMD_WRITE"
    case .disconnect: "NBD_CMD_DISC"
    case .flush: "NBD_CMD_FLUSH"
    case .trim: "NBD_CMD_TRIM"
    case .cache: "NBD_CMD_CACHE"
    case .writeZeroes: "NBD_CMD_WRITE_ZEROES"
    case .blockStatus: "NBD_CMD_BLOCK_STATUS"
    }
  }
}

/// How a command is to be done ("Command flags").
package struct CommandFlags: OptionSet, Hashable, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let fua = CommandFlags(rawValue: 1 << 0)
  package static let noHole = CommandFlags(rawValue: 1 << 1)
  package static let dontFragment = CommandFlags(rawValue: 1 << 2)
  package static let reqOne = CommandFlags(rawValue: 1 << 3)
  package static let fastZero = CommandFlags(rawValue: 1 << 4)

  /// Every flag that this server knows.
  package static let all: CommandFlags = [.fua, .noHole, .dontFragment, .reqOne, .fastZero]

  /// Each flag with the spec's name.
  package static let specNames: [(flag: CommandFlags, name: String)] = [
    (.fua, "NBD_CMD_FLAG_FUA"), (.noHole, "NBD_CMD_FLAG_NO_HOLE"), (.dontFragment, "NBD_CMD_FLAG_DF"),
    (.reqOne, "NBD_CMD_FLAG_REQ_ONE"), (.fastZero, "NBD_CMD_FLAG_FAST_ZERO"),
  ]
}

/// What a request can be refused with ("Error values"). The whole set: nothing else goes to a client.
package enum NBDError: UInt32, CaseIterable, Sendable {
  case permission = 1
  case io = 5
  case noMemory = 12
  case invalid = 22
  case noSpace = 28
  case overflow = 75
  case notSupported = 95
  case shutdown = 108

  /// The spec's name.
  package var specName: String {
    switch self {
    case .permission: "NBD_EPERM"
    case .io: "NBD_EIO"
    case .noMemory: "NBD_ENOMEM"
    case .invalid: "NBD_EINVAL"
    case .noSpace: "NBD_ENOSPC"
    case .overflow: "NBD_EOVERFLOW"
    case .notSupported: "NBD_ENOTSUP"
    case .shutdown: "NBD_ESHUTDOWN"
    }
  }
}

/// How replies look on a connection, for its whole life.
package enum ReplyMode: Sendable, Equatable {
  /// One fixed header; the only form without negotiation.
  case simple
  /// Chunks, after NBD_OPT_STRUCTURED_REPLY.
  case structured
}

/// Kinds of chunks ("Structured reply types"); bit 15 marks errors.
package enum ReplyType: UInt16, CaseIterable, Sendable {
  case none = 0
  case offsetData = 1
  case offsetHole = 2
  case blockStatus = 5
  case error = 0x8001
  case errorOffset = 0x8002

  /// The spec's name.
  package var specName: String {
    switch self {
    case .none: "NBD_REPLY_TYPE_NONE"
    case .offsetData: "NBD_REPLY_TYPE_OFFSET_DATA"
    case .offsetHole: "NBD_REPLY_TYPE_OFFSET_HOLE"
    case .blockStatus: "NBD_REPLY_TYPE_BLOCK_STATUS"
    case .error: "NBD_REPLY_TYPE_ERROR"
    case .errorOffset: "NBD_REPLY_TYPE_ERROR_OFFSET"
    }
  }
}

/// "Structured reply flags".
struct ReplyFlags: OptionSet, Sendable {
  let rawValue: UInt16
  /// NBD_REPLY_FLAG_DONE: no further chunk belongs to this request.
  static let done = ReplyFlags(rawValue: 1 << 0)
}

/// Status of an extent in the context `base:allocation`. Empty is always safe: "data, or not known".
package struct AllocationStatus: OptionSet, Hashable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// NBD_STATE_HOLE: no storage, so a write may run out of space.
  package static let hole = AllocationStatus(rawValue: 1 << 0)
  /// NBD_STATE_ZERO: reads as zeroes.
  package static let zero = AllocationStatus(rawValue: 1 << 1)
}
