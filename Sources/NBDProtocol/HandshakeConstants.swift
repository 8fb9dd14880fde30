// Numbers of the handshake phase, by the names of the spec ("Values", "Handshake phase").

/// NBD_FLAG_FIXED_NEWSTYLE and NBD_FLAG_NO_ZEROES; the client answers with the same bits. No other bit may be set by
/// either side (spec: "Handshake flags", "Client flags").
struct HandshakeFlags: OptionSet, Sendable {
  let rawValue: UInt32
  static let fixedNewstyle = HandshakeFlags(rawValue: 1 << 0)
  static let noZeroes = HandshakeFlags(rawValue: 1 << 1)

  /// What this server sets.
  static let offered: HandshakeFlags = [.fixedNewstyle, .noZeroes]
}

/// What a client may ask for while haggling ("Option types").
package enum Option: UInt32, CaseIterable, Sendable {
  case exportName = 1
  case abort = 2
  case list = 3
  case peekExport = 4
  case startTLS = 5
  case info = 6
  case go = 7
  case structuredReply = 8
  case listMetaContext = 9
  case setMetaContext = 10
  case extendedHeaders = 11

  /// The spec's name.
  package var specName: String {
    switch self {
    case .exportName: "NBD_OPT_EXPORT_NAME"
    case .abort: "NBD_OPT_ABORT"
    case .list: "NBD_OPT_LIST"
    case .peekExport: "NBD_OPT_PEEK_EXPORT"
    case .startTLS: "NBD_OPT_STARTTLS"
    case .info: "NBD_OPT_INFO"
    case .go: "NBD_OPT_GO"
    case .structuredReply: "NBD_OPT_STRUCTURED_REPLY"
    case .listMetaContext: "NBD_OPT_LIST_META_CONTEXT"
    case .setMetaContext: "NBD_OPT_SET_META_CONTEXT"
    case .extendedHeaders: "NBD_OPT_EXTENDED_HEADERS"
    }
  }
}

/// What an option can be answered with ("Option reply types"); bit 31 marks errors. Contains what this server sends and
/// nothing else.
package enum OptionReplyType: UInt32, CaseIterable, Sendable {
  case ack = 1
  case server = 2
  case info = 3
  case metaContext = 4
  case errorUnsupported = 0x8000_0001
  case errorPolicy = 0x8000_0002
  case errorInvalid = 0x8000_0003
  case errorUnknown = 0x8000_0006
  case errorShutdown = 0x8000_0007
  case errorTooBig = 0x8000_0009

  /// The spec's name.
  package var specName: String {
    switch self {
    case .ack: "NBD_REP_ACK"
    case .server: "NBD_REP_SERVER"
    case .info: "NBD_REP_INFO"
    case .metaContext: "NBD_REP_META_CONTEXT"
    case .errorUnsupported: "NBD_REP_ERR_UNSUP"
    case .errorPolicy: "NBD_REP_ERR_POLICY"
    case .errorInvalid: "NBD_REP_ERR_INVALID"
    case .errorUnknown: "NBD_REP_ERR_UNKNOWN"
    case .errorShutdown: "NBD_REP_ERR_SHUTDOWN"
    case .errorTooBig: "NBD_REP_ERR_TOO_BIG"
    }
  }
}

/// What INFO and GO can tell (spec: NBD_REP_INFO).
package enum InfoType: UInt16, CaseIterable, Sendable {
  case export = 0
  case name = 1
  case description = 2
  case blockSize = 3

  /// The spec's name.
  package var specName: String {
    switch self {
    case .export: "NBD_INFO_EXPORT"
    case .name: "NBD_INFO_NAME"
    case .description: "NBD_INFO_DESCRIPTION"
    case .blockSize: "NBD_INFO_BLOCK_SIZE"
    }
  }
}
