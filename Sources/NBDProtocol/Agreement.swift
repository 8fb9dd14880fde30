// What options have agreed on so far: the part of the handshake's state that STARTTLS would wipe.

struct Agreement: Sendable {
  var replies = ReplyMode.simple
  /// Of the last NBD_OPT_SET_META_CONTEXT, if it selected something.
  var contexts: SelectedContexts?

  /// The contexts are only good for the name that they were selected for. What it names may be replaced before NBD_OPT_GO: a client that
  /// was told of the contexts would be surprised to lose them.
  struct SelectedContexts: Sendable {
    var exportName: String
    var allocationContextID: UInt32
  }

  func session(_ export: ExportDescription, askedAs name: String, knowsBlockSizes: Bool) -> Session {
    var contextID: UInt32?
    if let contexts, export.offersBlockStatus, WireString.areEqual(contexts.exportName, name) {
      contextID = contexts.allocationContextID
    }
    return Session(
      export: export, flags: export.flags(for: replies), replies: replies, clientKnowsBlockSizes: knowsBlockSizes,
      allocationContextID: contextID)
  }
}

extension Agreement {
  /// NBD_OPT_STRUCTURED_REPLY.
  mutating func structuredReply(_ answer: OptionReplies, _ output: inout [UInt8]) throws(OptionError) {
    guard replies == .simple else {
      throw OptionError(.errorInvalid, "structured replies have already been negotiated")
    }
    replies = .structured
    answer.append(.ack, to: &output)
  }

  /// NBD_OPT_LIST.
  func list(_ exports: some ExportDirectory, _ answer: OptionReplies, _ output: inout [UInt8]) throws(OptionError) {
    guard exports.listIsAllowed else { throw OptionError(.errorPolicy, "this server does not list its exports") }
    for export in exports.list {
      answer.append(.server, to: &output) { data in
        data.appendLengthAndString(export.name)
        data.append(contentsOf: (export.description ?? "").utf8)
      }
    }
    answer.append(.ack, to: &output)
  }
}
