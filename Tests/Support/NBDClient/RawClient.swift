// A client that a test steers message by message, and that holds the server to the specification: each reply is checked for
// every rule that can be seen from outside, and a broken one throws `ClientError.ruleBroken`.

/// What one option was answered with, up to and with its final reply.
package struct OptionReply: Equatable {
  package var type: UInt32
  package var data: [UInt8]

  package var isError: Bool { type & OptionReplyType.errorBit != 0 }
  package var isFinal: Bool { isError || type == OptionReplyType.ack }
  package var text: String { String(decoding: data, as: UTF8.self) }
}

/// What a server told about an export.
package struct ExportInfo: Equatable {
  package var sizeBytes: UInt64 = 0
  package var flags: UInt16 = 0
  package var name: String?
  package var description: String?
  /// Minimum, preferred, maximum.
  package var blockSizes: [UInt32]?
}

/// The same thread sharing as `RawSocket`: one may submit while another receives, when the first calls only `socket.send`.
package final class RawClient: @unchecked Sendable {
  package let socket: RawSocket
  package var greetingFlags: UInt16 = 0
  package var clientFlags: UInt32 = 0
  package var isStructured = false
  /// Selected metadata contexts, by id.
  package var contexts: [UInt32: String] = [:]
  package var export = ExportInfo()
  /// Set by tests that stop the server: ESHUTDOWN is a breach otherwise.
  package var mayBeShutDown = false
  var pending: [UInt64: PendingReply] = [:]
  var nextCookie: UInt64 = 0x1_0000_0001

  package init(_ socket: RawSocket) { self.socket = socket }

  /// Connects, negotiates and enters transmission.
  package static func connect(
    unix path: String, export name: String = "", structured: Bool = true, contexts: [String] = ["base:allocation"],
    timeoutSeconds: Int = 30
  ) throws -> RawClient {
    let client = RawClient(try RawSocket(unix: path, timeoutSeconds: timeoutSeconds))
    try client.enter(export: name, structured: structured, contexts: contexts)
    return client
  }

  /// Greets, negotiates and enters transmission on a fresh connection.
  package func enter(export name: String = "", structured: Bool = true, contexts: [String] = ["base:allocation"]) throws
  {
    try greet()
    if structured { try negotiateStructured() }
    if structured && !contexts.isEmpty { try select(contexts, export: name) }
    try go(name)
  }

  // MARK: handshake

  /// Receives the 18 bytes of the greeting and answers with `flags`.
  package func greet(flags: UInt32 = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes) throws {
    var greeting = WireReader(try socket.receive(18))
    try demand(greeting.number() == Magic.greeting, "the greeting begins with NBDMAGIC")
    try demand(greeting.number() == Magic.option, "the greeting goes on with IHAVEOPT")
    greetingFlags = greeting.number()
    try demand(greetingFlags & ~3 == 0, "no handshake flag but FIXED_NEWSTYLE and NO_ZEROES: \(greetingFlags)")
    clientFlags = flags
    var bytes: [UInt8] = []
    bytes.append(bigEndian: flags)
    try socket.send(bytes)
  }

  /// Sends `option` and receives its replies up to the final one.
  package func option(_ option: UInt32, _ data: [UInt8] = []) throws -> [OptionReply] {
    try socket.send(optionBytes(option, data))
    return try receiveOptionReplies(to: option)
  }

  /// The final reply to `option`.
  package func finalReply(_ option: UInt32, _ data: [UInt8] = []) throws -> OptionReply {
    try self.option(option, data).last!
  }

  package func receiveOptionReplies(to option: UInt32) throws -> [OptionReply] {
    var replies: [OptionReply] = []
    repeat { replies.append(try receiveOptionReply(to: option)) } while !replies.last!.isFinal
    return replies
  }

  package func receiveOptionReply(to option: UInt32) throws -> OptionReply {
    var header = WireReader(try socket.receive(20))
    try demand(header.number() == Magic.optionReply, "an option reply begins with its magic")
    let echoed = header.number(UInt32.self)
    try demand(echoed == option, "a reply names its option: \(echoed) for \(option)")
    let type = header.number(UInt32.self)
    let length = header.number(UInt32.self)
    try demand(length <= 16 << 10, "an option reply is of reasonable length: \(length)")
    let reply = OptionReply(type: type, data: try socket.receive(Int(length)))
    try check(reply, to: option)
    return reply
  }

  package func negotiateStructured() throws {
    let reply = try finalReply(Option.structuredReply)
    try demand(reply.type == OptionReplyType.ack, "STRUCTURED_REPLY is acknowledged: \(reply.type)")
    isStructured = true
  }

  package func select(_ queries: [String], export name: String) throws {
    let replies = try option(Option.setMetaContext, metaContextData(name, queries))
    try demand(replies.last!.type == OptionReplyType.ack, "SET_META_CONTEXT is acknowledged: \(replies.last!)")
    contexts = [:]
    for reply in replies.dropLast() {
      var data = WireReader(reply.data)
      let id = data.number(UInt32.self)
      try demand(contexts[id] == nil, "context ids are unique")
      contexts[id] = String(decoding: data.rest(), as: UTF8.self)
    }
  }

  /// NBD_OPT_GO, asking for everything there is to know.
  package func go(_ name: String, requests: [UInt16] = [Info.name, Info.description, Info.blockSize]) throws {
    let replies = try option(Option.go, infoOptionData(name, requests))
    guard replies.last!.type == OptionReplyType.ack else {
      throw ClientError.ruleBroken("GO \"\(name)\" is acknowledged: \(replies.last!.type) \(replies.last!.text)")
    }
    export = try exportInfo(replies)
  }

  /// NBD_OPT_EXPORT_NAME; receives the 10 bytes, and the 124 zeroes when they were not declined.
  package func enterByExportName(_ name: String) throws {
    try socket.send(optionBytes(Option.exportName, Array(name.utf8)))
    var head = WireReader(try socket.receive(10))
    export = ExportInfo(sizeBytes: head.number(), flags: head.number())
    try demand(export.flags & ExportFlag.hasFlags != 0, "HAS_FLAGS is set")
    if clientFlags & HandshakeFlag.noZeroes == 0 {
      try demand(try socket.receive(124).allSatisfy { $0 == 0 }, "124 zero bytes follow")
    }
  }

  /// Puts together the NBD_REP_INFO replies of an INFO or GO.
  package func exportInfo(_ replies: [OptionReply]) throws -> ExportInfo {
    var info = ExportInfo()
    var sawExport = false
    for reply in replies where reply.type == OptionReplyType.info {
      var data = WireReader(reply.data)
      let kind = data.number(UInt16.self)
      switch kind {
      case Info.export:
        try demand(!sawExport && data.remaining == 10, "INFO_EXPORT comes once and has 12 bytes")
        sawExport = true
        info.sizeBytes = data.number()
        info.flags = data.number()
        try demand(info.flags & ExportFlag.hasFlags != 0, "HAS_FLAGS is set")
        try demand((info.flags & ExportFlag.sendDF != 0) == isStructured, "SEND_DF if and only if structured replies")
      case Info.name: info.name = String(decoding: data.rest(), as: UTF8.self)
      case Info.description: info.description = String(decoding: data.rest(), as: UTF8.self)
      case Info.blockSize:
        try demand(data.remaining == 12, "INFO_BLOCK_SIZE has 14 bytes")
        let sizes: [UInt32] = [data.number(), data.number(), data.number()]
        try demand(sizes[0].nonzeroBitCount == 1 && sizes[0] <= 65536, "minimum is a power of 2 up to 65536: \(sizes)")
        try demand(sizes[1].nonzeroBitCount == 1 && sizes[1] >= max(sizes[0], 512), "preferred block size: \(sizes)")
        try demand(sizes[2] >= max(sizes[1], 1 << 20), "maximum block size: \(sizes)")
        info.blockSizes = sizes
      default: throw ClientError.ruleBroken("information type \(kind) is not defined")
      }
    }
    try demand(sawExport, "INFO_EXPORT comes before the ACK")
    return info
  }

  private func check(_ reply: OptionReply, to option: UInt32) throws {
    switch reply.type {
    case OptionReplyType.ack: try demand(reply.data.isEmpty, "an ACK has no data")
    case OptionReplyType.server:
      try demand(option == Option.list && reply.data.count >= 4, "SERVER answers LIST")
      var data = WireReader(reply.data)
      try demand(Int(data.number(UInt32.self)) <= data.remaining, "the name fits into its SERVER reply")
    case OptionReplyType.info:
      try demand((option == Option.info || option == Option.go) && reply.data.count >= 2, "INFO answers INFO and GO")
    case OptionReplyType.metaContext:
      try demand(
        option == Option.listMetaContext || option == Option.setMetaContext, "META_CONTEXT answers its options")
      try demand(reply.data.count > 4, "META_CONTEXT carries an id and a name")
    default:
      try demand(reply.isError, "reply type \(reply.type) is not defined")
      try demand((1...10).contains(reply.type & ~OptionReplyType.errorBit), "error \(reply.type) is defined")
      try demandText(reply.data)
    }
  }

  func demandText(_ bytes: [UInt8]) throws {
    try demand(bytes.count <= 4096, "a text has at most 4096 bytes: \(bytes.count)")
    try demand(!bytes.contains(0), "a text has no NUL")
    try demand(String(validating: bytes, as: UTF8.self) != nil, "a text is UTF-8")
  }

  func demand(_ condition: Bool, _ rule: @autoclosure () -> String) throws {
    if !condition { throw ClientError.ruleBroken(rule()) }
  }
}
