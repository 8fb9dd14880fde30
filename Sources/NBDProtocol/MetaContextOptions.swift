// NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. There is one context, `base:allocation`.

/// What a list of queries asks for.
private struct MetaQueries {
  var exportName: String
  var count: UInt32
  /// `base:allocation`.
  var namesAllocation = false
  /// `base:`, which LIST takes for all of the namespace and SET ignores.
  var namesBase = false

  ///     0            4     4+n
  ///     name length  name  count  (query length, query)...
  init(_ data: RawSpan, _ limits: HandshakeLimits) throws(OptionError) {
    var reader = WireReader(data)
    exportName = try reader.lengthAndString("the export name")
    count = try reader.uint32("the number of queries")
    // A count that lies about the data is a mistake, one that does not may still be too big.
    guard UInt64(count) * 4 <= UInt64(reader.remainingBytes) else {
      throw OptionError(.errorInvalid, "\(count) queries do not fit into the data of the option")
    }
    guard count <= limits.queriesMax else {
      throw OptionError(.errorTooBig, "at most \(limits.queriesMax) queries are looked at")
    }
    for _ in 0..<count {
      let query = try reader.lengthAndString("a query")
      guard let colon = query.utf8.firstIndex(of: UInt8(ascii: ":")), colon != query.utf8.startIndex else {
        throw OptionError(.errorInvalid, "a query has to begin with a namespace and a colon")
      }
      // Unknown namespaces are ignored (MUST), and so are unknown leaves of this one.
      if WireString.areEqual(query, "base:") { namesBase = true }
      if WireString.areEqual(query, Agreement.allocationContextName) { namesAllocation = true }
    }
    try reader.end()
  }
}

extension Agreement {
  static let allocationContextName = "base:allocation"
  /// Any number would do; it is the only one.
  static let allocationContextID: UInt32 = 1

  /// Tells what could be selected.
  func listMetaContext(
    _ data: RawSpan, _ exports: some ExportDirectory, _ limits: HandshakeLimits, _ answer: OptionReplies,
    _ output: inout [UInt8]
  ) throws(OptionError) {
    let (queries, export) = try queries(data, exports, limits)
    let asksAllocation = queries.count == 0 || queries.namesBase || queries.namesAllocation
    if asksAllocation && export.offersBlockStatus { append(contextID: 0, answer, &output) }
    answer.append(.ack, to: &output)
  }

  /// Replaces the selection, also when it fails.
  mutating func setMetaContext(
    _ data: RawSpan, _ exports: some ExportDirectory, _ limits: HandshakeLimits, _ answer: OptionReplies,
    _ output: inout [UInt8]
  ) throws(OptionError) {
    contexts = nil
    let (queries, export) = try queries(data, exports, limits)
    if queries.namesAllocation && export.offersBlockStatus {
      contexts = SelectedContexts(
        exportName: queries.exportName, allocationContextID: Self.allocationContextID)
      append(contextID: Self.allocationContextID, answer, &output)
    }
    answer.append(.ack, to: &output)
  }

  private func queries(
    _ data: RawSpan, _ exports: some ExportDirectory, _ limits: HandshakeLimits
  ) throws(OptionError) -> (MetaQueries, ExportDescription) {
    guard replies == .structured else {
      throw OptionError(.errorInvalid, "structured replies have to be negotiated first")
    }
    let queries = try MetaQueries(data, limits)
    return (queries, try find(queries.exportName, in: exports))
  }

  private func append(contextID: UInt32, _ answer: OptionReplies, _ output: inout [UInt8]) {
    answer.append(.metaContext, to: &output) { data in
      data.appendBigEndian(contextID)
      data.append(contentsOf: Self.allocationContextName.utf8)
    }
  }
}
