// A story that cost others data: bytes already "read" by splice or sendfile turned into zeroes when the range was punched
// before they left the socket. A reply is a copy made under the range lock, so it is whole however late it is received.

import DaemonHarness
import Glibc
import NBDClient
import Testing

extension Integration {
  @Suite struct PunchHole {
    @Test(needs("mkfs.xfs"), needsRoot, arguments: [1 << 20, 4 << 20, 32 << 20] as [UInt32])
    func unreadRepliesStayWholeWhileTheRangeIsTrimmed(readBytes: UInt32) throws {
      let total: UInt32 = 32 << 20
      try withScratch { scratch in
        let directory = try scratch.mountFileSystem(["/sbin/mkfs.xfs", "-q"], sizeBytes: 512 << 20)
        let image = directory + "/disk.img"
        try run("/usr/bin/truncate", ["-s", "64M", image], seconds: 5).orThrow()
        let daemon = try Daemon.start(in: scratch, [image])
        for round in 0..<4 {
          let trimmer = try daemon.client()
          #expect(try trimmer.write(0, filled(0xff, Int(total)), flags: CmdFlag.fua).isSuccess)
          try dropCache(of: image)
          let reader = try daemon.client()
          for offset in stride(from: 0, to: UInt64(total), by: Int(readBytes)) {
            try reader.submit(Cmd.read, offset: offset, length: readBytes)
          }
          #expect(reader.socket.isReadable(withinMilliseconds: 10_000))
          #expect(try trimmer.call(Cmd.trim, offset: 0, length: total).isSuccess)
          #expect(try trimmer.read(0, 4096).isSuccess)
          var old = 0
          while reader.repliesOutstanding > 0 {
            let reply = try reader.receiveReply()
            let isOld = reply.data.first == 0xff
            old += isOld ? 1 : 0
            expectSame(reply.data, filled(isOld ? 0xff : 0, Int(readBytes)))
          }
          #expect(old > 0, "round \(round): the first reply was read before the trim")
        }
        try daemon.stop()
      }
    }
  }
}

/// Forgets the cached pages of `path`, so that the next read comes from the disk.
private func dropCache(of path: String) throws {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw HarnessError("open \(path): \(errnoText())") }
  defer { close(descriptor) }
  fsync(descriptor)
  posix_fadvise(descriptor, 0, 0, Int32(POSIX_FADV_DONTNEED))
}
