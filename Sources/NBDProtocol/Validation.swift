// The door: every request of a client is judged here, once; behind it, it is trusted.

extension Session {
  /// A refused WRITE up to this long, bytes, is drained and answered. Beyond, the announced payload is an attack rather
  /// than a mistake and the connection closes; the spec protects 32 MiB ("Size constraints").
  package static let drainedBytesMax: UInt32 = 64 << 20

  /// Judges a request header. Pure arithmetic: allocates nothing and never traps.
  /// - Parameter isShuttingDown: refuse everything but DISC with NBD_ESHUTDOWN.
  /// - Throws: a WRITE announced more than `drainedBytesMax`. `atByte` is 0.
  package func validate(
    _ header: RequestHeader, isShuttingDown: Bool = false
  ) throws(ProtocolViolation) -> Verdict {
    guard let command = Command(rawValue: header.type) else {
      return .refused(refusal(header, nil, .invalid, .unknownCommand))
    }
    let rule = command.rule
    if rule.hasPayload && header.length > Self.drainedBytesMax {
      throw ProtocolViolation(what: "a write of \(header.length) bytes is announced", atByte: 0)
    }
    let request = Request(
      command: command, flags: CommandFlags(rawValue: header.flags), cookie: header.cookie, offset: header.offset,
      length: header.length)
    // DISC has no reply that could carry an error, so nothing about it can be refused.
    if command == .disconnect { return .accepted(request) }

    if isShuttingDown { return .refused(refusal(header, command, .shutdown, .shuttingDown)) }
    if let reason = refusesToAllow(request, rule) {
      return .refused(refusal(header, command, reason == .readOnly ? .permission : .invalid, reason))
    }
    guard rule.hasRange else {
      if header.offset == 0 && header.length == 0 { return .accepted(request) }
      return .refused(refusal(header, command, .invalid, .reservedFields))
    }
    if rule.carriesData && header.length > export.payloadBytesMax {
      return .refused(refusal(header, command, .invalid, .tooLong))
    }
    if let offset = firstByteBeyondEnd(header) {
      var refusal = refusal(header, command, rule.errorOutOfRange, .beyondEnd)
      // The encoder takes the offset of the export away again, whatever the client sent.
      if header.length > 0 && rule.repliesErrorOffset { refusal.offset = offset &+ export.imageOffset }
      return .refused(refusal)
    }
    // The minimum is a power of two. It binds everyone: a client that was not told gets a clean error, not corruption.
    if (header.offset | UInt64(header.length)) & UInt64(export.blockBytesMin - 1) != 0 {
      return .refused(refusal(header, command, .invalid, .unaligned))
    }
    // Success would need a descriptor, and one that is neither empty nor longer than the request cannot be made. Other
    // commands of length 0 have nothing to do and succeed.
    if command == .blockStatus && header.length == 0 {
      return .refused(refusal(header, command, .invalid, .emptyStatus))
    }
    // Behind the door everybody counts from the start of the image. No overflow: the export ends inside it.
    var inImage = request
    inImage.offset += export.imageOffset
    return .accepted(inImage)
  }

  /// What the session, apart from the range, has against the request.
  private func refusesToAllow(_ request: Request, _ rule: CommandRule) -> RefusalReason? {
    // First, since a read-only export advertises no TRIM either, and the spec wants NBD_EPERM there.
    if rule.changesData && flags.contains(.readOnly) { return .readOnly }
    if refusesUnadvertised && !flags.isSuperset(of: rule.neededFlag) { return .commandNotAdvertised }
    if request.command == .blockStatus && allocationContextID == nil { return .noContext }
    if !CommandFlags.all.isSuperset(of: request.flags) { return .unknownFlag }
    if !rule.flags.union(.fua).isSuperset(of: request.flags) { return .flagNotForCommand }
    if refusesUnadvertised && !flags.isSuperset(of: request.flags.neededFlags) { return .flagNotAdvertised }
    return nil
  }

  /// Nil: the request ends inside the export. Offset + length may overflow; the end of the export never does.
  private func firstByteBeyondEnd(_ header: RequestHeader) -> UInt64? {
    let (end, overflow) = header.offset.addingReportingOverflow(UInt64(header.length))
    if !overflow && end <= export.sizeBytes { return nil }
    return max(header.offset, export.sizeBytes)
  }

  private func refusal(
    _ header: RequestHeader, _ command: Command?, _ error: NBDError, _ reason: RefusalReason
  ) -> Refusal {
    let payloadBytes = command?.rule.hasPayload == true ? header.length : 0
    return Refusal(
      cookie: header.cookie, command: command, error: error, reason: reason, offset: nil, payloadBytes: payloadBytes)
  }
}
