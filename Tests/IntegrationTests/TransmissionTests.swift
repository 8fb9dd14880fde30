// What the specification demands of a server in the transmission phase (rows A5 to A8 of the protocol table), seen from the
// wire. `RawClient` checks the form of every reply; these tests provoke the replies.

import DaemonHarness
import Glibc
import NBDClient
import Testing

private let end: UInt64 = 64 << 20

extension Integration {
  @Suite struct Transmitting {
    // MARK: A5, sizes

    @Test(arguments: [true, false])
    func payloadsOf32MiBAreServed(structured: Bool) throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client(structured: structured)
        var random = Random(seed: 32)
        let data = random.bytes(32 << 20)
        #expect(try client.write(0, data, flags: CmdFlag.fua).isSuccess)
        try expectSame(client.read(0, 32 << 20).data, data)
        try client.disconnect()
      }
    }

    @Test func aReadAbove32MiBIsInvalid() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        #expect(try client.read(0, (32 << 20) + 1).error == NBDErrno.invalid)
        #expect(try client.read(0, 0xffff_ffff).error == NBDErrno.invalid)
        #expect(try client.read(0, 4096).isSuccess)
      }
    }

    @Test(arguments: [(32 << 20) + 1, 33 << 20, 64 << 20])
    func aWriteAbove32MiBIsDrainedAndRefused(bytes: Int) throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        #expect(try client.write(0, filled(1, bytes)).error == NBDErrno.invalid)
        try expectZero(client.read(0, 1 << 20).data)
        #expect(try client.write(0, filled(2, 512)).isSuccess)
      }
    }

    @Test(arguments: [(64 << 20) + 1, 0xffff_ffff] as [UInt32])
    func aWriteAbove64MiBEndsTheConnection(bytes: UInt32) throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        try client.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: bytes))
        #expect(try client.socket.receiveUntilEnd().isEmpty)
        #expect(try daemon.client().read(0, 512).isSuccess)
      }
    }

    @Test(arguments: [1, 511, 1000, 4097, (1 << 20) + 513] as [UInt64])
    func oddSizesAreServedExactly(size: UInt64) throws {
      try withDaemon(sizeBytes: size) { daemon, image, _ in
        let client = try daemon.client()
        #expect(client.export.sizeBytes == size)
        var random = Random(seed: size)
        let data = random.bytes(Int(size))
        #expect(try client.write(0, data).isSuccess)
        try expectSame(client.read(0, UInt32(size)).data, data)
        #expect(try client.read(size - 1, 1).data == [data.last!])
        #expect(try client.read(size - 1, 2).error == NBDErrno.invalid)
        #expect(try client.write(size - 1, [1, 2]).error == NBDErrno.noSpace)
        #expect(try client.call(Cmd.writeZeroes, offset: size - 1, length: 1).isSuccess)
        #expect(try client.read(size - 1, 1).data == [0])
        #expect(try client.call(Cmd.trim, offset: 0, length: UInt32(size)).isSuccess)
        #expect(try client.call(Cmd.blockStatus, offset: 0, length: UInt32(size)).isSuccess)
        try client.disconnect()
        try daemon.stop()
        var facts = stat()
        stat(image, &facts)
        #expect(UInt64(facts.st_size) == size)
      }
    }

    @Test func effectsReachNearly4GiB() throws {
      try withDaemon(sizeBytes: 5 << 30) { daemon, image, _ in
        let client = try daemon.client()
        let all: UInt32 = 0xffff_ffff
        let marks: [UInt64] = [
          0, 1, (64 << 20) - 1, 96 << 20, (2 << 30) - 1, 2 << 30, UInt64(all) - 1, UInt64(all), 4 << 30,
        ]
        for mark in marks { #expect(try client.write(mark, [0xaa]).isSuccess) }
        let status = try client.call(Cmd.blockStatus, offset: 1, length: all)
        #expect(status.isSuccess)
        #expect(try client.call(Cmd.cache, offset: 1, length: all).isSuccess)
        #expect(try client.call(Cmd.trim, offset: 1, length: all).isSuccess)
        for mark in marks { #expect(try client.write(mark, [0xaa]).isSuccess) }
        #expect(try client.call(Cmd.writeZeroes, offset: 1, length: all).isSuccess)
        // [1, 2^32) is zero, and nothing else.
        for mark in marks {
          let expected: UInt8 = (1...UInt64(all)).contains(mark) ? 0 : 0xaa
          #expect(try client.read(mark, 1).data == [expected], "at \(mark)")
        }
        #expect(try allocatedBytes(image) < 1 << 20)
      }
    }

    @Test func offsetsNearTheEndOfNumbersDoNotWrapAround() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        for offset in [.max, .max - 511, .max - 4095, 1 << 63, (1 << 63) - 1] as [UInt64] {
          for length in [1, 512, 4096, 1 << 20] as [UInt32] {
            #expect(try client.read(offset, length).error == NBDErrno.invalid)
            #expect(try client.write(offset, filled(1, Int(length))).error == NBDErrno.noSpace)
            #expect(try client.call(Cmd.trim, offset: offset, length: length).error == NBDErrno.invalid)
            #expect(try client.call(Cmd.writeZeroes, offset: offset, length: length).error == NBDErrno.noSpace)
            #expect(try client.call(Cmd.blockStatus, offset: offset, length: length).error == NBDErrno.invalid)
            #expect(try client.call(Cmd.cache, offset: offset, length: length).error == NBDErrno.invalid)
          }
        }
        try expectZero(client.read(0, 1 << 20).data)
      }
    }

    // MARK: A6, transmission in general

    @Test func badRequestMagicEndsTheConnection() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        try client.socket.send(requestBytes(Cmd.read, cookie: 1, offset: 0, length: 512, magic: 0x2560_9514))
        #expect(try client.socket.receiveUntilEnd().isEmpty)
      }
    }

    @Test func cookiesComeBackAsTheyWere() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        for cookie in [0, 1, 0x0102_0304_0506_0708, 0xffff_ffff_0000_0000, .max, 0] as [UInt64] {
          try client.submit(Cmd.read, offset: 0, length: 16, cookie: cookie)
          #expect(try client.receiveReply().cookie == cookie)
        }
      }
    }

    @Test func aThousandRequestsInOneSegmentAllGetTheirReply() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        var bytes: [UInt8] = []
        for index in 0..<1000 {
          let offset = UInt64(index) * 4096
          client.expect(Cmd.write, cookie: UInt64(index), offset: offset, length: 16)
          bytes += requestBytes(Cmd.write, cookie: UInt64(index), offset: offset, length: 16)
          bytes += filled(UInt8(truncatingIfNeeded: index), 16)
        }
        try client.socket.send(bytes)
        for _ in 0..<1000 { #expect(try client.receiveReply().isSuccess) }
        for index in stride(from: 0, to: 1000, by: 7) {
          #expect(try client.read(UInt64(index) * 4096, 16).data == filled(UInt8(truncatingIfNeeded: index), 16))
        }
      }
    }

    /// A request behind an overlapping one of the same connection sees its effect, in the order of the socket.
    @Test func overlappingRequestsOfAConnectionKeepTheirOrder() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        for round in 1...50 {
          let old = filled(UInt8(round), 256 << 10)
          try client.submit(Cmd.write, offset: 0, length: 256 << 10, payload: old, cookie: 1)
          try client.submit(Cmd.read, offset: 4096, length: 128 << 10, cookie: 2)
          try client.submit(Cmd.writeZeroes, offset: 0, length: 256 << 10, cookie: 3)
          try client.submit(Cmd.read, offset: 0, length: 64 << 10, cookie: 4)
          for _ in 0..<4 {
            let reply = try client.receiveReply()
            #expect(reply.isSuccess)
            if reply.cookie == 2 { expectSame(reply.data, filled(UInt8(round), 128 << 10)) }
            if reply.cookie == 4 { expectZero(reply.data) }
          }
        }
      }
    }

    @Test func errorsAreStructuredAndCarryAText() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        let replies = [
          try client.read(end, 512), try client.write(end, filled(1, 512)),
          try client.call(Cmd.trim, offset: end, length: 1),
          try client.call(Cmd.writeZeroes, offset: end, length: 1), try client.call(Cmd.cache, offset: end, length: 1),
          try client.call(Cmd.blockStatus, offset: end, length: 1), try client.call(Cmd.flush, flags: CmdFlag.reqOne),
          try client.call(99),
        ]
        for reply in replies {
          #expect(!reply.isSuccess)
          #expect(reply.isStructured)
          #expect(!reply.errorText.isEmpty)
        }
      }
    }

    @Test(arguments: [true, false])
    func lengthZeroIsSuccessAndDoesNothing(structured: Bool) throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client(structured: structured)
        #expect(try client.write(0, filled(1, 512)).isSuccess)
        for offset in [0, 5, end] {
          #expect(try client.read(offset, 0).isSuccess)
          #expect(try client.write(offset, []).isSuccess)
          for command in [Cmd.trim, Cmd.cache, Cmd.writeZeroes] {
            #expect(try client.call(command, offset: offset, length: 0).isSuccess)
          }
        }
        try expectSame(client.read(0, 512).data, filled(1, 512))
      }
    }

    /// RESIZE is number 8 and belongs to an extension nobody negotiated.
    @Test(arguments: [8, 9, 100, 0x7fff, 0xffff] as [UInt16], [true, false])
    func unknownCommandIsInvalidAndTheConnectionLives(command: UInt16, structured: Bool) throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client(structured: structured)
        for flags in [0, CmdFlag.fua, 0xffff] as [UInt16] {
          #expect(try client.call(command, flags: flags, offset: 1, length: 100).error == NBDErrno.invalid)
        }
        #expect(try client.read(0, 512).isSuccess)
      }
    }

    @Test func aFlagOfAnotherCommandIsInvalid() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        let allowed: [UInt16: UInt16] = [
          Cmd.read: CmdFlag.fua | CmdFlag.dontFragment, Cmd.write: CmdFlag.fua, Cmd.flush: CmdFlag.fua,
          Cmd.trim: CmdFlag.fua, Cmd.cache: CmdFlag.fua,
          Cmd.writeZeroes: CmdFlag.fua | CmdFlag.noHole | CmdFlag.fastZero,
          Cmd.blockStatus: CmdFlag.fua | CmdFlag.reqOne,
        ]
        for (command, flags) in allowed {
          for bit in 0..<16 {
            let flag = UInt16(1) << UInt16(bit)
            let isEmptyCommand = command == Cmd.flush
            let payload = command == Cmd.write ? filled(0, 512) : nil
            let reply = try client.call(
              command, flags: flag, offset: 0, length: isEmptyCommand ? 0 : 512, payload: payload)
            if flags & flag == 0 {
              #expect(reply.error == NBDErrno.invalid, "command \(command), flag \(flag)")
            } else {
              let mayFail = flag == CmdFlag.fastZero && reply.error == NBDErrno.notSupported
              #expect(reply.isSuccess || mayFail, "command \(command), flag \(flag): \(reply.error)")
            }
          }
        }
      }
    }

    @Test func aRefusedWriteIsDrainedForEveryReason() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        // Payload that looks like requests: a server that fell out of step would obey it.
        var trap: [UInt8] = []
        while trap.count < 64 << 10 { trap += requestBytes(Cmd.writeZeroes, cookie: 66, offset: 0, length: 1 << 20) }
        #expect(try client.write(0, filled(0x11, 1 << 20)).isSuccess)
        #expect(try client.write(end - 5, trap).error == NBDErrno.noSpace)
        #expect(try client.write(UInt64.max - 5, trap).error == NBDErrno.noSpace)
        #expect(try client.write(0, trap, flags: CmdFlag.noHole).error == NBDErrno.invalid)
        #expect(try client.write(0, trap, flags: 0x8000).error == NBDErrno.invalid)
        try expectSame(client.read(0, 1 << 20).data, filled(0x11, 1 << 20))
      }
    }

    @Test func disconnectAnswersEverythingBeforeIt() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        var bytes: [UInt8] = []
        for index in 0..<100 as Range<UInt64> {
          client.expect(Cmd.write, flags: CmdFlag.fua, cookie: index, offset: index << 16, length: 65536)
          bytes += requestBytes(Cmd.write, flags: CmdFlag.fua, cookie: index, offset: index << 16, length: 65536)
          bytes += filled(UInt8(index), 65536)
        }
        try client.socket.send(bytes + requestBytes(Cmd.disconnect, cookie: 1000, offset: 0, length: 0))
        for _ in 0..<100 { #expect(try client.receiveReply().isSuccess) }
        #expect(try client.socket.receiveUntilEnd().isEmpty)
      }
    }

    @Test func disconnectWithFieldsSetIsStillADisconnect() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        try client.socket.send(requestBytes(Cmd.disconnect, flags: 1, cookie: 3, offset: 77, length: 88))
        #expect(try client.socket.receiveUntilEnd().isEmpty)
      }
    }

    @Test(arguments: [false, true])
    func halfClosedConnectionGetsItsReplies(tcp: Bool) throws {
      try withDaemon(tcp: true) { daemon, _, _ in
        let client = RawClient(tcp ? try RawSocket(loopback: try daemon.port()) : try RawSocket(unix: daemon.socket))
        try client.enter()
        for index in 0..<64 as Range<UInt64> {
          try client.submit(Cmd.read, offset: index << 18, length: 256 << 10, cookie: index)
        }
        try client.submit(Cmd.flush, cookie: 64)
        client.socket.shutdownWrite()
        usleep(200_000)
        for _ in 0...64 { #expect(try client.receiveReply().isSuccess) }
        #expect(try client.socket.receiveUntilEnd().isEmpty)
      }
    }

    @Test func aConnectionCutInsideARequestIsForgotten() throws {
      try withDaemon(tcp: true) { daemon, _, _ in
        let header = requestBytes(Cmd.write, cookie: 1, offset: 0, length: 1 << 20)
        for count in [1, 27, 28, 29, 5000] {
          let client = RawClient(try RawSocket(loopback: try daemon.port()))
          try client.enter()
          try client.socket.send(Array((header + filled(1, 1 << 20))[0..<count]))
          client.socket.reset()
        }
        let client = try daemon.client()
        try expectZero(client.read(0, 1 << 20).data)
      }
    }

    // MARK: A7, commands

    @Test(arguments: [true, false])
    func aReadOnlyExportRefusesWithEPERMAndDrains(structured: Bool) throws {
      try withDaemon(["--read-only"]) { daemon, _, _ in
        let client = try daemon.client(structured: structured)
        #expect(client.export.flags & ExportFlag.readOnly != 0)
        #expect(try client.write(0, filled(1, 1 << 20)).error == NBDErrno.permission)
        #expect(try client.call(Cmd.trim, offset: 0, length: 4096).error == NBDErrno.permission)
        #expect(try client.call(Cmd.writeZeroes, offset: 0, length: 4096).error == NBDErrno.permission)
        try expectZero(client.read(0, 1 << 20).data)
        if client.export.flags & ExportFlag.sendFlush != 0 { #expect(try client.call(Cmd.flush).isSuccess) }
      }
    }

    @Test func dontFragmentWithoutStructuredRepliesIsInvalid() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client(structured: false)
        #expect(client.export.flags & ExportFlag.sendDF == 0)
        #expect(try client.read(0, 512, flags: CmdFlag.dontFragment).error == NBDErrno.invalid)
        #expect(try client.read(0, 512).isSuccess)
      }
    }

    @Test func holesOfAReadComeAsHoles() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        #expect(try client.write(8 << 20, filled(1, 1 << 20)).isSuccess)
        let reply = try client.read(7 << 20, 3 << 20)
        expectSame(reply.data, filled(0, 1 << 20) + filled(1, 1 << 20) + filled(0, 1 << 20))
        #expect(reply.holes == [(7 << 20)..<(8 << 20), (9 << 20)..<(10 << 20)])
        #expect(try client.read(16 << 20, 1 << 20).holes == [(16 << 20)..<(17 << 20)])
      }
    }

    @Test func manyExtentsAreToldTruthfully() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        for index in 0..<500 as Range<UInt64> { _ = try client.write(index << 17, filled(1, 65536)) }
        #expect(try client.call(Cmd.flush).isSuccess)
        let map = try client.call(Cmd.blockStatus, offset: 0, length: 64 << 20).extents["base:allocation"]!
        #expect(map.count == 1000)
        for (index, extent) in map.prefix(999).enumerated() {
          #expect(extent == Extent(lengthBytes: 65536, status: index % 2 == 0 ? 0 : 3))
        }
        var random = Random(seed: 12)
        for _ in 0..<500 {
          let offset = random.next() % end
          let length = UInt32(1 + random.next() % (end - offset))
          for flags in [0, CmdFlag.reqOne] {
            let part = try client.call(Cmd.blockStatus, flags: flags, offset: offset, length: length)
            let first = part.extents["base:allocation"]?.first
            let isData = offset < 500 << 17 && offset >> 16 & 1 == 0
            #expect(first?.status == (isData ? 0 : 3), "at \(offset)")
          }
        }
      }
    }

    @Test func blockStatusWithoutAContextIsInvalid() throws {
      try withDaemon { daemon, _, _ in
        let none = try RawClient.connect(unix: daemon.socket, contexts: [])
        #expect(try none.call(Cmd.blockStatus, offset: 0, length: 4096).error == NBDErrno.invalid)
        let simple = try daemon.client(structured: false)
        #expect(try simple.call(Cmd.blockStatus, offset: 0, length: 4096).error == NBDErrno.invalid)
        #expect(try simple.read(0, 512).isSuccess)
      }
    }

    // MARK: A8, errors

    @Test(needsRoot) func aFullFileSystemIsENOSPC() throws {
      try withScratch { scratch in
        let directory = try scratch.mountTmpfs(sizeBytes: 8 << 20)
        let image = directory + "/disk.img"
        try run("/usr/bin/truncate", ["-s", "64M", image], seconds: 5).orThrow()
        let daemon = try Daemon.start(in: scratch, [image])
        let client = try daemon.client()
        #expect(try client.write(0, filled(1, 1 << 20)).isSuccess)
        #expect(try client.write(1 << 20, filled(1, 16 << 20)).error == NBDErrno.noSpace)
        #expect(try client.call(Cmd.trim, offset: 0, length: 64 << 20).isSuccess)
        #expect(try client.write(0, filled(2, 4 << 20)).isSuccess)
        try expectSame(client.read(0, 4 << 20).data, filled(2, 4 << 20))
        try daemon.stop()
      }
    }

    @Test func readingWhatAnotherProcessCutOffIsEIONotZeroes() throws {
      try withDaemon { daemon, image, _ in
        let client = try daemon.client()
        #expect(try client.write(0, filled(1, 4 << 20)).isSuccess)
        truncate(image, 1 << 20)
        for (offset, length) in [(1 << 20, 4096), ((1 << 20) - 4096, 8192), (32 << 20, 1 << 20)] as [(UInt64, UInt32)] {
          let reply = try client.read(offset, length)
          #expect(reply.error == NBDErrno.io)
          if let at = reply.errorOffset { #expect(at >= 1 << 20) }
        }
        try expectSame(client.read(0, 1 << 20).data, filled(1, 1 << 20))
      }
    }
  }
}
