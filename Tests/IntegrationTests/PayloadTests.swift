// How large and how odd requests may be (rows A5 of the protocol table), seen from the wire.

import DaemonHarness
import Glibc
import NBDClient
import Testing

extension Integration {
  @Suite struct Sizes {
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
  }
}
