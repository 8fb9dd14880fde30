// Faults on purpose: each kind of rule, as a client of the built daemon meets it.

import DaemonHarness
import Foundation
import NBDClient
import Testing

extension Integration {
  @Suite struct Faults {
    private func withFaults(_ rules: String..., body: (RawClient, Daemon) throws -> Void) throws {
      try withDaemon(sizeBytes: 8 << 20, rules.flatMap { ["--fault", $0] }) { daemon, _, _ in
        try body(try daemon.client(), daemon)
      }
    }

    @Test func theDaemonSaysThatFaultsAreOn() throws {
      try withFaults("write:error=EIO,nth=3") { _, daemon in
        #expect(daemon.log.contains("warning: faults are injected on purpose: write:error=EIO,nth=3 export=disk.img"))
      }
    }

    @Test func theNthWriteFailsAndTheConnectionLives() throws {
      try withFaults("write:error=ENOSPC,nth=2") { client, _ in
        #expect(try client.write(0, filled(1, 4096)).isSuccess)
        #expect(try client.write(4096, filled(2, 4096)).error == NBDErrno.noSpace)
        expectZero(try client.read(4096, 4096).data)
        #expect(try client.write(4096, filled(3, 4096)).isSuccess)
        expectSame(try client.read(0, 8192).data, filled(1, 4096) + filled(3, 4096))
      }
    }

    /// The reads of two blocks are sent together: the one that is held up is answered last.
    @Test func aDelayHoldsUpItsRangeAlone() throws {
      try withFaults("read:delay=300ms,range=1M-2M") { client, _ in
        let slow = try client.submit(Cmd.read, offset: 1 << 20, length: 4096)
        let quick = try client.submit(Cmd.read, offset: 0, length: 4096)
        #expect(try client.receiveReply().cookie == quick)
        #expect(try client.receiveReply().cookie == slow)
      }
    }

    @Test func shortCallsAreCompleted() throws {
      try withFaults("read+write+zero:short=512") { client, _ in
        let pattern = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        #expect(try client.write(1000, pattern).isSuccess)
        expectSame(try client.read(1000, 100_000).data, pattern)
        #expect(try client.call(Cmd.writeZeroes, offset: 2000, length: 50_000).isSuccess)
        expectSame(
          try client.read(1000, 100_000).data, Array(pattern[..<1000]) + filled(0, 50_000) + pattern[51_000...])
      }
    }

    @Test func aReadThatFailsNowAndThenIsTheSameEachTime() throws {
      func errors() throws -> [Bool] {
        var errors: [Bool] = []
        try withFaults("read:error=EIO,probability=50%,seed=7") { client, _ in
          errors = try (0..<40).map { _ in try client.read(0, 512).error == NBDErrno.io }
        }
        return errors
      }
      let first = try errors()
      #expect(first.contains(true) && first.contains(false))
      #expect(try errors() == first)
    }

    /// Nobody syncs: the rule behind it would say so.
    @Test func aLostSyncIsASuccess() throws {
      try withFaults("sync:lose", "sync:error=EIO") { client, _ throws in
        #expect(try client.write(0, filled(1, 512), flags: CmdFlag.fua).isSuccess)
        #expect(try client.call(Cmd.flush).isSuccess)
      }
    }

    @Test func aFailedSyncFailsAllLaterOnes() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let daemon = try Daemon.start(in: scratch, ["--fault", "sync:error=EIO,nth=1", image])
        let client = try daemon.client()
        #expect(try client.call(Cmd.flush).error == NBDErrno.io)
        #expect(try daemon.client().call(Cmd.flush).error == NBDErrno.io)
        #expect(try client.write(0, filled(1, 512)).isSuccess)
        daemon.child.signal(SIGTERM)
        #expect(daemon.child.wait(seconds: 12) == .exited(74))
      }
    }

    /// Two names of one file are one image, which remembers for both.
    @Test func aFailedSyncFailsThroughEveryNameOfTheFile() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let daemon = try Daemon.start(
          in: scratch, ["--fault", "sync:error=EIO,nth=2", "--export", "a=\(image)", "--export", "b=\(image)"])
        let (one, other) = (try daemon.client("a"), try daemon.client("b"))
        #expect(try one.call(Cmd.flush).isSuccess)
        #expect(try one.write(0, filled(1, 512)).isSuccess)
        #expect(try one.call(Cmd.flush).error == NBDErrno.io)
        #expect(try other.call(Cmd.flush).error == NBDErrno.io)
      }
    }

    @Test func aFullImageTakesWritesAgainWhenItIsTrimmed() throws {
      try withFaults("write:enospc-until-trimmed,nth=2") { client, _ in
        #expect(try client.write(0, filled(1, 4096)).isSuccess)
        for _ in 0..<3 { #expect(try client.write(0, filled(2, 4096)).error == NBDErrno.noSpace) }
        #expect(try client.call(Cmd.trim, offset: 1 << 20, length: 1 << 20).isSuccess)
        #expect(try client.write(0, filled(3, 4096)).isSuccess)
        expectSame(try client.read(0, 4096).data, filled(3, 4096))
      }
    }

    @Test func trimZeroAndStatusFailToo() throws {
      try withFaults("zero:error=EIO,range=0-1M", "status:error=EIO,range=0-1M") { client, _ throws in
        #expect(try client.call(Cmd.trim, offset: 0, length: 4096).error == NBDErrno.io)
        #expect(try client.call(Cmd.writeZeroes, offset: 0, length: 4096).error == NBDErrno.io)
        #expect(try client.call(Cmd.writeZeroes, offset: 1 << 20, length: 4096).isSuccess)
        #expect(try client.call(Cmd.blockStatus, offset: 0, length: 4096).error == NBDErrno.io)
        #expect(try client.call(Cmd.blockStatus, offset: 1 << 20, length: 4096).isSuccess)
      }
    }

    @Test func libnbdSeesTheError() throws {
      try withFaults("write:error=EDQUOT,nth=1") { _, daemon in
        let nbd = try Libnbd.connect(daemon.socket)
        #expect(throws: LibnbdError.self) { try nbd.write(0, filled(1, 512)) }
        try nbd.write(0, filled(2, 512))
        expectSame(try nbd.read(0, 512), filled(2, 512))
      }
    }

    @Test func eachExportHasItsOwnFaults() throws {
      try withScratch { scratch in
        for name in ["a", "b"] { try scratch.makeImage(name, sizeBytes: 1 << 20) }
        let file = scratch.file("holdfast.toml")
        let text = """
          [server]
          listen = ["nbd+unix:///?socket=\(scratch.file("nbd.sock"))"]
          [[export]]
          name = "a"
          path = "a"
          faults = ["write:error=EIO"]
          [[export]]
          name = "b"
          path = "b"
          """
        try text.write(toFile: file, atomically: false, encoding: .utf8)
        let child = try Child(
          Daemon.binary, ["serve", "--config", file], outputPath: scratch.file("log"),
          environment: ["RUNTIME_DIRECTORY=\(scratch.path)"])
        scratch.atEnd {
          child.signal(SIGTERM)
          #expect(child.wait(seconds: 12) == .exited(0))
        }
        let socket = scratch.file("nbd.sock")
        #expect(eventually(seconds: 20) { (try? RawSocket(unix: socket)) != nil }, "\(child.output)")
        let broken = try RawClient.connect(unix: socket, export: "a")
        #expect(try broken.write(0, filled(1, 512)).error == NBDErrno.io)
        let sound = try RawClient.connect(unix: socket, export: "b")
        #expect(try sound.write(0, filled(1, 512)).isSuccess)
      }
    }
  }
}
