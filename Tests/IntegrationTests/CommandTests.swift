// What single commands promise, and which errors they end with (rows A7 and A8 of the protocol table), seen from the wire.

import DaemonHarness
import Glibc
import NBDClient
import Testing

private let end: UInt64 = 64 << 20

extension Integration {
  @Suite struct Commands {
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
