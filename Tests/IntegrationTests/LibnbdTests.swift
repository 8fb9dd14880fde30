// The reference client library from Swift: every command and flag it can send, many at once, and what it is refused.

import CNbd
import DaemonHarness
import Glibc
import NBDClient
import Synchronization
import Testing

private let fua = UInt32(LIBNBD_CMD_FLAG_FUA)
private let noHole = UInt32(LIBNBD_CMD_FLAG_NO_HOLE)
private let fastZero = UInt32(LIBNBD_CMD_FLAG_FAST_ZERO)
private let reqOne = UInt32(LIBNBD_CMD_FLAG_REQ_ONE)
private let dontFragment = UInt32(LIBNBD_CMD_FLAG_DF)

extension Integration {
  @Suite struct LibnbdClient {
    @Test func everythingIsAdvertised() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket)
        #expect(nbd_get_size(nbd.handle) == 64 << 20)
        #expect(nbd_is_read_only(nbd.handle) == 0)
        #expect(nbd_can_flush(nbd.handle) == 1)
        #expect(nbd_can_fua(nbd.handle) == 1)
        #expect(nbd_can_trim(nbd.handle) == 1)
        #expect(nbd_can_zero(nbd.handle) == 1)
        #expect(nbd_can_fast_zero(nbd.handle) == 1)
        #expect(nbd_can_cache(nbd.handle) == 1)
        #expect(nbd_can_df(nbd.handle) == 1)
        #expect(nbd_can_multi_conn(nbd.handle) == 1)
        #expect(nbd_get_structured_replies_negotiated(nbd.handle) == 1)
        #expect(nbd_can_meta_context(nbd.handle, "base:allocation") == 1)
        #expect(nbd_get_block_size(nbd.handle, LIBNBD_SIZE_MINIMUM) == 1)
        #expect(nbd_get_block_size(nbd.handle, LIBNBD_SIZE_PREFERRED) == 4096)
        #expect(nbd_get_block_size(nbd.handle, LIBNBD_SIZE_MAXIMUM) == 32 << 20)
      }
    }

    @Test func everyCommandWorks() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket)
        var random = Random(seed: 7)
        let data = random.bytes(1 << 20)
        try nbd.write(4096, data)
        try expectSame(nbd.read(4096, data.count), data)
        try nbd.cache(0, 1 << 20)
        try nbd.flush()
        try nbd.zero(8192, 4096)
        try expectZero(nbd.read(8192, 4096))
        try nbd.zero(16384, 4096, flags: noHole)
        try expectZero(nbd.read(16384, 4096))
        try nbd.trim(65536, 65536)
        let trimmed = try nbd.read(65536, 65536)
        #expect(isZero(trimmed) || same(trimmed, Array(data[61440..<61440 + 65536])))
        try expectSame(nbd.read(4096, 4096), Array(data[0..<4096]))
        try nbd.shutdown()
      }
    }

    /// Once FUA is advertised it is accepted on every command, where it has a meaning and where it has none.
    @Test func fuaIsAcceptedOnEveryCommand() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket, strict: false)
        try nbd.write(0, filled(0x5a, 8192), flags: fua)
        try expectSame(nbd.read(0, 8192, flags: fua), filled(0x5a, 8192))
        try nbd.zero(0, 4096, flags: fua)
        try nbd.zero(0, 4096, flags: fua | noHole)
        try nbd.trim(4096, 4096, flags: fua)
        try nbd.cache(0, 4096, flags: fua)
        try nbd.flush(flags: fua)
        #expect(!(try nbd.extents(0, 1 << 20, flags: fua)).isEmpty)
      }
    }

    @Test func dontFragmentGetsOneChunk() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket)
        try nbd.write(1 << 20, filled(1, 4096))
        for count in [4096, 65536, 1 << 20, 8 << 20] {
          let chunks = try nbd.chunks(0, count, flags: dontFragment)
          #expect(chunks.count == 1)
          #expect(chunks.first?.range == 0..<UInt64(count))
        }
      }
    }

    @Test func fastZeroEndsQuicklyOrWithNotSupported() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket)
        let data = filled(0x77, 1 << 20)
        try nbd.write(0, data)
        for flags in [fastZero, fastZero | noHole] {
          try nbd.write(0, data)
          switch errnoOf({ try nbd.zero(0, 1 << 20, flags: flags) }) {
          case 0: try expectZero(nbd.read(0, 1 << 20))
          case ENOTSUP: try expectSame(nbd.read(0, 1 << 20), data)
          case let code: Issue.record("FAST_ZERO failed with \(errnoText(code))")
          }
        }
      }
    }

    @Test func blockStatusTellsDataFromHoles() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket)
        let hole = UInt32(LIBNBD_STATE_HOLE | LIBNBD_STATE_ZERO)
        #expect(try nbd.extents(0, 64 << 20) == [Extent(lengthBytes: 64 << 20, status: hole)])
        try nbd.write(8 << 20, filled(3, 1 << 20))
        let extents = try nbd.extents(0, 64 << 20)
        #expect(
          extents == [
            Extent(lengthBytes: 8 << 20, status: hole), Extent(lengthBytes: 1 << 20, status: 0),
            Extent(lengthBytes: 55 << 20, status: hole),
          ])
        #expect(try nbd.extents(1 << 20, 4 << 20, flags: reqOne) == [Extent(lengthBytes: 4 << 20, status: hole)])
        #expect(try nbd.extents(8 << 20, 16 << 20, flags: reqOne) == [Extent(lengthBytes: 1 << 20, status: 0)])
      }
    }

    @Test func aZeroedRangeWithoutHolesIsAllocated() throws {
      try withDaemon { daemon, image, _ in
        let nbd = try Libnbd.connect(daemon.socket)
        let before = try allocatedBytes(image)
        try nbd.zero(0, 4 << 20, flags: noHole | fua)
        #expect(try allocatedBytes(image) >= before + (4 << 20))
        try expectZero(nbd.read(0, 4 << 20))
      }
    }

    @Test func sixtyFourRequestsInFlightAllComeBack() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket)
        let blockBytes = 64 << 10
        var random = Random(seed: 64)
        let data = random.bytes(64 * blockBytes)
        let back = UnsafeMutableRawBufferPointer.allocate(byteCount: data.count, alignment: 8)
        defer { back.deallocate() }
        let failures = UnsafeMutablePointer<Int>.allocate(capacity: 1)
        failures.initialize(to: 0)
        defer { failures.deallocate() }
        // Returning 1 retires the command, so that nothing has to be collected by cookie.
        let completed = nbd_completion_callback(
          callback: { failures, error in
            if error!.pointee != 0 { failures!.assumingMemoryBound(to: Int.self).pointee += 1 }
            return 1
          }, user_data: UnsafeMutableRawPointer(failures), free: nil)
        try data.withUnsafeBytes { source in
          for index in 0..<64 {
            let at = (index * 37 % 64) * blockBytes
            try Libnbd.check(
              nbd_aio_pwrite(nbd.handle, source.baseAddress! + at, blockBytes, UInt64(at), completed, 0))
          }
          #expect(try nbd.drain())
        }
        for index in 0..<64 {
          let at = index * blockBytes
          try Libnbd.check(nbd_aio_pread(nbd.handle, back.baseAddress! + at, blockBytes, UInt64(at), completed, 0))
        }
        #expect(try nbd.drain())
        #expect(failures.pointee == 0)
        expectSame([UInt8](back), data)
      }
    }

    @Test func eightConnectionsSeeEachOthersWrites() throws {
      try withDaemon(tcp: true) { daemon, _, _ in
        let socket = daemon.socket
        let blockBytes = 32 << 10
        try onThreads(8) { writer in
          let nbd = try Libnbd.connect(socket)
          for index in 0..<32 {
            try nbd.write(UInt64((index * 8 + writer) * blockBytes), filled(UInt8(index * 8 + writer), blockBytes))
          }
          try nbd.flush()
          try nbd.shutdown()
        }
        let port = try daemon.port()
        try onThreads(8) { reader in
          let nbd = try Libnbd()
          try Libnbd.check(nbd_connect_uri(nbd.handle, "nbd://127.0.0.1:\(port)/"))
          for index in 0..<32 {
            let block = (index + reader * 4) % 32 * 8 + reader
            let data = try nbd.read(UInt64(block * blockBytes), blockBytes)
            if !same(data, filled(UInt8(block), blockBytes)) { throw HarnessError("block \(block) is wrong") }
          }
        }
      }
    }

    @Test func aClientWithoutStructuredRepliesIsServed() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket, structured: false)
        #expect(nbd_get_structured_replies_negotiated(nbd.handle) == 0)
        #expect(nbd_can_df(nbd.handle) == 0)
        #expect(nbd_can_meta_context(nbd.handle, "base:allocation") == 0)
        try nbd.write(100, filled(9, 5000))
        try expectSame(nbd.read(100, 5000), filled(9, 5000))
        try expectZero(nbd.read(1 << 20, 1 << 20))
      }
    }

    @Test func optionModeListsInformsAndEnters() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd()
        try Libnbd.check(nbd_set_opt_mode(nbd.handle, true))
        try Libnbd.check(nbd_connect_unix(nbd.handle, daemon.socket))
        let names = try nbd.names()
        #expect(!names.isEmpty)
        for name in names + ["", "disk.img"] {
          try Libnbd.check(nbd_set_export_name(nbd.handle, name))
          try Libnbd.check(nbd_opt_info(nbd.handle))
          #expect(nbd_get_size(nbd.handle) == 64 << 20)
        }
        try Libnbd.check(nbd_set_export_name(nbd.handle, "no such export"))
        #expect(errnoOf { try Libnbd.check(nbd_opt_info(nbd.handle)) } == ENOENT)
        #expect(errnoOf { try Libnbd.check(nbd_opt_go(nbd.handle)) } == ENOENT)
        try Libnbd.check(nbd_set_export_name(nbd.handle, ""))
        try Libnbd.check(nbd_opt_go(nbd.handle))
        try expectZero(nbd.read(0, 4096))
      }
    }

    @Test func optionModeCanAbort() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd()
        try Libnbd.check(nbd_set_opt_mode(nbd.handle, true))
        try Libnbd.check(nbd_connect_unix(nbd.handle, daemon.socket))
        try Libnbd.check(nbd_opt_abort(nbd.handle))
        #expect(nbd_aio_is_closed(nbd.handle) == 1)
      }
    }

    @Test func badRequestsGetTheirExactErrorAndTheConnectionLives() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket, strict: false)
        let end: UInt64 = 64 << 20
        try nbd.write(end - 512, filled(0xee, 512))
        #expect(errnoOf { _ = try nbd.read(end - 512, 1024) } == EINVAL)
        #expect(errnoOf { _ = try nbd.read(end, 512) } == EINVAL)
        #expect(errnoOf { _ = try nbd.read(1 << 62, 512) } == EINVAL)
        #expect(errnoOf { try nbd.write(end - 512, filled(1, 1024)) } == ENOSPC)
        #expect(errnoOf { try nbd.write(end, filled(1, 512)) } == ENOSPC)
        #expect(errnoOf { try nbd.zero(end - 512, 1024) } == ENOSPC)
        #expect(errnoOf { try nbd.trim(end - 512, 1024) } == EINVAL)
        #expect(errnoOf { try nbd.cache(end - 512, 1024) } == EINVAL)
        #expect(errnoOf { _ = try nbd.extents(end - 512, 1024) } == EINVAL)
        // Flags that do not belong to their command, and one that belongs to none.
        #expect(errnoOf { _ = try nbd.read(0, 512, flags: noHole) } == EINVAL)
        #expect(errnoOf { try nbd.write(0, filled(1, 512), flags: reqOne) } == EINVAL)
        #expect(errnoOf { try nbd.trim(0, 512, flags: fastZero) } == EINVAL)
        #expect(errnoOf { try nbd.flush(flags: dontFragment) } == EINVAL)
        #expect(errnoOf { _ = try nbd.extents(0, 512, flags: noHole) } == EINVAL)
        #expect(errnoOf { try nbd.zero(0, 512, flags: 0x40) } == EINVAL)
        try expectSame(nbd.read(end - 512, 512), filled(0xee, 512))
        try expectZero(nbd.read(0, 512))
      }
    }

    @Test func lengthZeroIsAnsweredWithSuccess() throws {
      try withDaemon { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket, strict: false)
        try nbd.trim(0, 0)
        try nbd.zero(0, 0)
        try nbd.cache(0, 0)
        try expectZero(nbd.read(0, 512))
      }
    }

    @Test func aReadOnlyExportRefusesToBeChanged() throws {
      try withDaemon(["--read-only"]) { daemon, _, _ in
        let nbd = try Libnbd.connect(daemon.socket, strict: false)
        #expect(nbd_is_read_only(nbd.handle) == 1)
        #expect(errnoOf { try nbd.write(0, filled(1, 512)) } == EPERM)
        #expect(errnoOf { try nbd.zero(0, 512) } == EPERM)
        #expect(errnoOf { try nbd.trim(0, 512) } == EPERM)
        try expectZero(nbd.read(0, 4096))
      }
    }
  }
}
