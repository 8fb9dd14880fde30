// What holds for every request and reply (rows A6 of the protocol table), seen from the wire. `RawClient` checks the form of
// every reply; these tests provoke the replies.

import DaemonHarness
import Glibc
import NBDClient
import Testing

private let end: UInt64 = 64 << 20

extension Integration {
  @Suite struct Transmitting {
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
        #expect(try client.write(0, filled(0x1c, 16 << 20)).isSuccess)
        for index in 0..<64 as Range<UInt64> {
          try client.submit(Cmd.read, offset: index << 18, length: 256 << 10, cookie: index)
        }
        try client.submit(Cmd.flush, cookie: 64)
        client.socket.shutdownWrite()
        usleep(200_000)
        for _ in 0...64 {
          let reply = try client.receiveReply()
          #expect(reply.isSuccess)
          expectSame(reply.data, filled(0x1c, reply.cookie == 64 ? 0 : 256 << 10))
        }
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
  }
}
