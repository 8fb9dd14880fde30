// NBD_OPT_EXPORT_NAME, NBD_OPT_INFO and NBD_OPT_GO: which export it shall be, and what it is like.

extension Agreement {
  /// NBD_OPT_EXPORT_NAME: the data is the name. No reply can say no, so an export that cannot be had closes the
  /// connection.
  /// - Throws: the name is not a string; the connection closes too.
  func exportName(
    _ data: RawSpan, _ exports: some ExportDirectory, _ clientFlags: HandshakeFlags, _ output: inout [UInt8]
  ) throws(OptionError) -> HandshakeProgress.Outcome {
    let name = try WireString.decode(data, "the export name")
    guard let export = exports.find(name) else { return .close(.unknownExport) }
    if let refusal = exports.refusal(of: export) ?? exports.take(export) {
      switch refusal {
      case .unknown: return .close(.unknownExport)
      case .policy(let text): return .close(.refused(text))
      }
    }
    let session = session(export, askedAs: name, knowsBlockSizes: false)
    output.appendBigEndian(export.sizeBytes)
    output.appendBigEndian(session.flags.rawValue)
    if !clientFlags.contains(.noZeroes) { output.append(contentsOf: repeatElement(0, count: 124)) }
    return .transmission(session)
  }

  /// NBD_OPT_INFO and NBD_OPT_GO, which differ only in what happens after the ACK: GO `takes` the export. Returns what GO
  /// starts.
  ///
  ///     0            4     4+n    6+n
  ///     name length  name  count  16-bit information requests
  func info(
    _ data: RawSpan, _ exports: some ExportDirectory, takes: Bool, _ answer: OptionReplies, _ output: inout [UInt8]
  ) throws(OptionError) -> Session {
    var reader = WireReader(data)
    let name = try reader.lengthAndString("the export name")
    var requested = Set<InfoType>()
    for _ in 0..<(try reader.uint16("the number of information requests")) {
      // Unknown ones are ignored (MUST).
      if let type = InfoType(rawValue: try reader.uint16("an information request")) { requested.insert(type) }
    }
    try reader.end()
    let export = try find(name, in: exports)
    if takes, let refusal = exports.take(export) { throw error(refusal, name) }

    let session = session(export, askedAs: name, knowsBlockSizes: requested.contains(.blockSize))
    append(.export, answer, &output) { data in
      data.appendBigEndian(export.sizeBytes)
      data.appendBigEndian(session.flags.rawValue)
    }
    if requested.contains(.name) {
      append(.name, answer, &output) { $0.append(contentsOf: export.name.utf8) }
    }
    if requested.contains(.description), let description = export.description {
      append(.description, answer, &output) { $0.append(contentsOf: description.utf8) }
    }
    // A minimum above the default is told unasked too: a client that listens is spared errors.
    if requested.contains(.blockSize) || export.blockBytesMin > 1 {
      append(.blockSize, answer, &output) { data in
        data.appendBigEndian(export.blockBytesMin)
        data.appendBigEndian(export.blockBytesPreferred)
        data.appendBigEndian(export.payloadBytesMax)
      }
    }
    answer.append(.ack, to: &output)
    return session
  }

  /// The export that an option names.
  /// - Throws: there is none, or it is not for this client.
  func find(_ name: String, in exports: some ExportDirectory) throws(OptionError) -> ExportDescription {
    guard let export = exports.find(name) else { throw error(.unknown, name) }
    if let refusal = exports.refusal(of: export) { throw error(refusal, name) }
    return export
  }

  private func error(_ refusal: ExportRefusal, _ name: String) -> OptionError {
    switch refusal {
    case .unknown:
      OptionError(.errorUnknown, name.isEmpty ? "there is no default export" : "there is no export called '\(name)'")
    case .policy(let text): OptionError(.errorPolicy, text)
    }
  }

  private func append(
    _ type: InfoType, _ answer: OptionReplies, _ output: inout [UInt8], _ payload: (inout [UInt8]) -> Void
  ) {
    answer.append(.info, to: &output) { data in
      data.appendBigEndian(type.rawValue)
      payload(&data)
    }
  }
}
