// Which requests are executed and how others are refused: rows A5 to A8 as far as they are decided before any I/O.

import Testing

@testable import NBDProtocol

struct RequestHeaderTests {
  @Test func headerIsDecodedFieldByField() throws {
    let bytes = Client.request(
      type: 0x0102, flags: 0x0304, cookie: 0x0506_0708_090a_0b0c, offset: 0x0d0e_0f10_1112_1314, length: 0x1516_1718)
    #expect(bytes.count == RequestHeader.byteCount)
    let header = unsafe try RequestHeader.decode(bytes.span.bytes)
    #expect(
      header
        == RequestHeader(
          flags: 0x0304, type: 0x0102, cookie: 0x0506_0708_090a_0b0c, offset: 0x0d0e_0f10_1112_1314,
          length: 0x1516_1718))
  }

  @Test(arguments: [0x2560_9514, 0x1256_0953, 0x21e4_1c71, 0, 0x1395_6025] as [UInt32])
  func wrongRequestMagicCloses(magic: UInt32) {
    let bytes = Client.request(type: 0, magic: magic)
    #expect(throws: ProtocolViolation.self) { unsafe try RequestHeader.decode(bytes.span.bytes) }
  }

  @Test func cookieIsOpaqueAndReturned() {
    let session = Session.test()
    for cookie in [0, 1, .max, 0x8000_0000_0000_0000] as [UInt64] {
      let good = RequestHeader(flags: 0, type: 0, cookie: cookie, offset: 0, length: 512)
      let bad = RequestHeader(flags: 0xffff, type: 0, cookie: cookie, offset: 0, length: 512)
      #expect((try? session.validate(good))?.request?.cookie == cookie)
      #expect((try? session.validate(bad))?.refusal?.cookie == cookie)
    }
  }
}

struct RequestTests {
  let session = Session.test()
  let size: UInt64 = 1 << 30

  @Test func validRequestsAreAccepted() {
    for command in Command.ranged {
      let request = session.judge(command, 4096, 512)?.request
      #expect(request == Request(command: command, flags: [], cookie: 7, offset: 4096, length: 512))
      #expect(request?.range == 4096..<4608)
    }
    #expect(session.accepts(.flush))
    #expect(session.accepts(.disconnect))
  }

  @Test func payloadsUpTo32MiBAreAccepted() {
    #expect(session.accepts(.read, 0, 32 << 20))
    #expect(session.accepts(.write, 0, 32 << 20))
  }

  @Test func longerPayloadsAreDrainedAndRefused() {
    for length in [(32 << 20) + 1, 64 << 20] as [UInt32] {
      let refusal = session.judge(.write, 0, length)?.refusal
      #expect(refusal?.error == .invalid)
      #expect(refusal?.payloadBytes == length)
      // A read has no payload to drain.
      #expect(session.judge(.read, 0, length)?.refusal?.payloadBytes == 0)
      #expect(session.error(.read, 0, length) == .invalid)
    }
  }

  @Test func hugePayloadCloses() {
    for length in [(64 << 20) + 1, .max] as [UInt32] {
      #expect(session.judge(.write, 0, length) == nil)
      // Also where it would be refused anyway.
      #expect(Session.test(flags: .readOnly).judge(.write, 0, length) == nil)
      #expect(session.judge(.write, 0, length, isShuttingDown: true) == nil)
      #expect(session.judge(.write, 0, length, flags: 0xffff) == nil)
    }
  }

  @Test(arguments: [Command.trim, .writeZeroes, .cache, .blockStatus])
  func effectsMayExceedTheMaximumPayload(command: Command) {
    let large = Session.test(sizeBytes: 8 << 30)
    #expect(large.accepts(command, 0, UInt32.max))
    #expect(large.accepts(command, 4 << 30, UInt32.max))
  }

  @Test func unalignedRequestsAreInvalid() {
    let strict = Session.test(blockBytesMin: 512)
    for command in Command.ranged {
      #expect(strict.accepts(command, 512, 1024))
      #expect(strict.error(command, 511, 512) == .invalid)
      #expect(strict.error(command, 512, 511) == .invalid)
      #expect(strict.error(command, 1, 1) == .invalid)
    }
    #expect(strict.judge(.write, 1, 512)?.refusal?.payloadBytes == 512)
  }

  @Test func strictSizesBindEveryClientCleanly() {
    // `clientKnowsBlockSizes` is false in this session.
    let strict = Session.test(blockBytesMin: 4096, payloadBytesMax: 1 << 20)
    #expect(!strict.clientKnowsBlockSizes)
    #expect(strict.error(.write, 512, 512) == .invalid)
    #expect(strict.judge(.write, 0, 2 << 20)?.refusal?.payloadBytes == 2 << 20)
    #expect(strict.error(.read, 0, 2 << 20) == .invalid)
  }

  @Test(arguments: Command.ranged)
  func requestsBeyondTheEndAreRefused(command: Command) {
    let expected: NBDError = command == .write || command == .writeZeroes ? .noSpace : .invalid
    #expect(session.accepts(command, size - 512, 512))
    #expect(session.error(command, size - 512, 513) == expected)
    #expect(session.error(command, size, 1) == expected)
    #expect(session.error(command, size + 1, 0) == expected)
    #expect(session.error(command, size + 4096, 4096) == expected)
  }

  @Test func oddSizeIsServedToItsLastByte() {
    let odd = Session.test(sizeBytes: 1001)
    #expect(odd.accepts(.read, 1000, 1))
    #expect(odd.accepts(.write, 0, 1001))
    #expect(odd.error(.read, 0, 1002) == .invalid)
    #expect(odd.error(.write, 1001, 1) == .noSpace)
  }

  @Test(arguments: Command.ranged)
  func endOfRangeDoesNotOverflow(command: Command) {
    for offset in [.max, .max - 511, .max - 512, 1 << 63, (1 << 63) - 1] as [UInt64] {
      for length in [0, 1, 512, 1024, 32 << 20] as [UInt32] {
        #expect(session.error(command, offset, length) == command.rule.errorOutOfRange)
      }
    }
    // With the largest export there is, the end still does not wrap.
    let endless = Session.test(sizeBytes: .max)
    #expect(endless.accepts(command, .max - 512, 512))
    #expect(endless.error(command, .max - 511, 512) == command.rule.errorOutOfRange)
  }

  @Test func errorOffsetIsTheFirstByteBeyondTheEnd() {
    for command in Command.ranged {
      #expect(session.judge(command, size - 512, 1024)?.refusal?.offset == size)
      #expect(session.judge(command, size + 512, 1024)?.refusal?.offset == size + 512)
      #expect(session.judge(command, .max - 10, 1024)?.refusal?.offset == UInt64.max - 10)
      // Nothing lies inside an empty request.
      #expect(session.judge(command, size + 1, 0)?.refusal?.offset == .some(nil))
    }
  }

  @Test(arguments: [Command.read, .write, .trim, .cache, .writeZeroes])
  func lengthZeroSucceedsInRange(command: Command) {
    #expect(session.accepts(command, 0, 0))
    #expect(session.accepts(command, size, 0))
    #expect(session.error(command, size + 1, 0) == command.rule.errorOutOfRange)
  }

  @Test func statusOfNothingIsInvalid() {
    #expect(session.error(.blockStatus, 0, 0) == .invalid)
  }

  @Test(arguments: [8, 9, 100, 0xffff] as [UInt16])
  func unknownCommandIsInvalid(type: UInt16) throws {
    let header = RequestHeader(flags: 0, type: type, cookie: 3, offset: 0, length: .max)
    let refusal = try #require(try session.validate(header).refusal)
    #expect(refusal.error == .invalid)
    #expect(refusal.command == nil)
    // Only WRITE has a payload.
    #expect(refusal.payloadBytes == 0)
  }

  @Test(arguments: Command.allCases.filter { $0 != .disconnect }, (5..<16).map { UInt16(1) << UInt16($0) })
  func unknownFlagIsInvalid(command: Command, flag: UInt16) {
    let length: UInt32 = command.rule.hasRange ? 512 : 0
    #expect(session.error(command, 0, length, flags: flag) == .invalid)
    #expect(session.error(command, 0, length, flags: flag | 1) == .invalid)
  }

  @Test(arguments: Command.allCases.filter { $0 != .disconnect }, CommandFlags.specNames.map(\.flag))
  func flagIsValidForItsCommandsOnly(command: Command, flag: CommandFlags) {
    let isValid =
      switch flag {
      case .fua: true
      case .noHole, .fastZero: command == .writeZeroes
      case .dontFragment: command == .read
      case .reqOne: command == .blockStatus
      default: false
      }
    let length: UInt32 = command.rule.hasRange ? 512 : 0
    #expect(session.accepts(command, 0, length, flags: flag.rawValue) == isValid)
    if !isValid { #expect(session.error(command, 0, length, flags: flag.rawValue) == .invalid) }
  }

  @Test func refusedWritesAreDrained() {
    #expect(session.judge(.write, 0, 512, flags: 0x8000)?.refusal?.payloadBytes == 512)
    #expect(session.judge(.write, size, 512)?.refusal?.payloadBytes == 512)
    #expect(session.judge(.write, 0, 512, isShuttingDown: true)?.refusal?.payloadBytes == 512)
    let readOnly = Session.test(flags: .readOnly)
    #expect(readOnly.judge(.write, 0, 512)?.refusal?.payloadBytes == 512)
    for command in Command.allCases where command != .write {
      #expect(readOnly.judge(command, 0, 512, flags: 0x8000)?.refusal?.payloadBytes ?? 0 == 0)
    }
  }

  @Test func disconnectToleratesAnything() {
    #expect(session.accepts(.disconnect, 77, 88, flags: 0xffff))
    #expect(session.judge(.disconnect, 0, 0, isShuttingDown: true)?.request != nil)
  }

  @Test func flushHasReservedFields() {
    #expect(session.error(.flush, 1, 0) == .invalid)
    #expect(session.error(.flush, 0, 1) == .invalid)
  }

  @Test(arguments: Command.allCases.filter { $0 != .disconnect })
  func shutdownRefusesRequests(command: Command) {
    #expect(session.error(command, 0, 512, isShuttingDown: true) == .shutdown)
    #expect(session.error(command, 0, command.rule.hasRange ? 512 : 0) == nil)
  }

  @Test(arguments: [Command.write, .trim, .writeZeroes])
  func readOnlyRefusesWritesWithEPERM(command: Command) {
    // Advertised or not.
    for flags in [TransmissionFlags.readOnly, Exports.writable.union(.readOnly)] {
      let readOnly = Session.test(flags: flags)
      #expect(readOnly.error(command, 0, 512) == .permission)
      #expect(readOnly.error(command, 1 << 40, 512) == .permission)
      #expect(readOnly.accepts(.read, 0, 512))
    }
  }

  @Test func commandsNeedTheirAdvertisement() {
    let needs: [(Command, TransmissionFlags)] = [
      (.flush, .sendFlush), (.trim, .sendTrim), (.writeZeroes, .sendWriteZeroes), (.cache, .sendCache),
    ]
    for (command, flag) in needs {
      let length: UInt32 = command.rule.hasRange ? 512 : 0
      #expect(Session.test(flags: flag).accepts(command, 0, length))
      #expect(Session.test(flags: Exports.writable.subtracting(flag)).error(command, 0, length) == .invalid)
    }
  }

  @Test(arguments: Command.allCases)
  func fuaIsAcceptedEverywhereOnceAdvertised(command: Command) {
    let length: UInt32 = command.rule.hasRange ? 512 : 0
    #expect(session.accepts(command, 0, length, flags: CommandFlags.fua.rawValue))
    guard command != .disconnect else { return }
    let without = Session.test(flags: Exports.writable.subtracting(.sendFUA))
    #expect(without.error(command, 0, length, flags: CommandFlags.fua.rawValue) == .invalid)
  }

  @Test func dontFragmentNeedsStructuredReplies() {
    let flag = CommandFlags.dontFragment.rawValue
    #expect(Session.test(replies: .structured).accepts(.read, 0, 32 << 20, flags: flag))
    #expect(Session.test(replies: .structured).flags.contains(.sendDF))
    #expect(Session.test(replies: .simple).error(.read, 0, 512, flags: flag) == .invalid)
    #expect(!Session.test(replies: .simple).flags.contains(.sendDF))
  }

  @Test func fastZeroNeedsItsAdvertisement() {
    let flag = CommandFlags.fastZero.rawValue
    #expect(session.accepts(.writeZeroes, 0, 512, flags: flag))
    let without = Session.test(flags: Exports.writable.subtracting(.sendFastZero))
    #expect(without.error(.writeZeroes, 0, 512, flags: flag) == .invalid)
    #expect(without.accepts(.writeZeroes, 0, 512))
  }

  @Test func blockStatusNeedsASelectedContext() {
    #expect(session.accepts(.blockStatus, 0, 512))
    #expect(Session.test(contextID: nil).error(.blockStatus, 0, 512) == .invalid)
    #expect(Session.test(replies: .simple).error(.blockStatus, 0, 512) == .invalid)
  }

  @Test func writersLockExclusively() {
    for command in Command.allCases {
      let expected: LockMode =
        switch command {
        case .write, .trim, .writeZeroes: .exclusive
        case .read, .cache, .blockStatus: .shared
        case .flush, .disconnect: .none
        }
      #expect(command.rule.lock == expected)
      #expect(command.rule.changesData == (expected == .exclusive))
    }
  }

  @Test func refusalsUseFewErrors() {
    // EOVERFLOW, ENOTSUP, ENOMEM, EIO and, while nothing shuts down, ESHUTDOWN are no answers at the door.
    var seen: Set<NBDError> = []
    for command in Command.allCases {
      for flags in 0..<UInt16(64) {
        for (offset, length) in [(0, 0), (0, 512), (size, 1), (0, 60 << 20), (.max, 1)] as [(UInt64, UInt32)] {
          for session in [session, Session.test(flags: [.readOnly])] {
            if let error = session.error(command, offset, length, flags: flags) { seen.insert(error) }
          }
        }
      }
    }
    #expect(seen == [.invalid, .noSpace, .permission])
  }

  #if GUARD_SWITCHES
  @Test func withoutItsGuardTheUnadvertisedIsAccepted() {
    let guarded = Session.test(flags: [])
    #expect(guarded.error(.trim, 0, 512) == .invalid)
    let bare = guarded.with(refusesUnadvertised: false)
    #expect(bare.accepts(.trim, 0, 512))
  }
  #endif
}
