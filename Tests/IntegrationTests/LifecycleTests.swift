// Starting, stopping, and sharing images and sockets with others.

import DaemonHarness
import Glibc
import Locking
import NBDClient
import Testing

/// A client that asked for 32 MiB and never reads it: replies are on their way until the server gives up.
private func stalledReader(_ daemon: Daemon) throws -> RawClient {
  let client = try daemon.client()
  // Holes would travel as a few bytes that fit into any socket.
  #expect(try client.write(0, filled(0x5c, 32 << 20)).isSuccess)
  for index in 0..<32 as Range<UInt64> { try client.submit(Cmd.read, offset: index << 20, length: 1 << 20) }
  // One reply may fit into the socket, and then nothing is owed. A second has begun, and no more comes: now it is stalled.
  var queued = 0
  let isStalled = eventually(seconds: 10) {
    let before = queued
    queued = client.socket.queuedBytes
    guard queued > 5 << 18, queued == before else { return false }
    usleep(50_000)
    return client.socket.queuedBytes == queued
  }
  #expect(isStalled, "\(queued) bytes have come")
  return client
}

/// A second daemon in the same scratch directory that must refuse to start.
private func expectRefusal(
  _ arguments: [String], in scratch: Scratch, socket: String = "second.sock", status: Int32,
  _ location: SourceLocation = #_sourceLocation
) throws -> String {
  let second = try Daemon.launch(in: scratch, arguments, socket: scratch.file(socket))
  #expect(second.child.wait(seconds: 10) == .exited(status), "\(second.log)", sourceLocation: location)
  return second.log
}

extension Integration {
  @Suite struct Lifecycle {
    @Test(arguments: [SIGTERM, SIGINT])
    func noClientDelaysTheEnd(signal: Int32) throws {
      try withDaemon { daemon, _, _ in
        let idle = try (0..<20).map { _ in try daemon.client() }
        let silent = try (0..<5).map { _ in try RawSocket(unix: daemon.socket) }
        let stalled = try (0..<4).map { _ in try stalledReader(daemon) }
        let cut = try daemon.client()
        try cut.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: 1 << 20) + filled(1, 1000))
        // The disk takes what it takes: the last sync shall have nothing to do.
        #expect(try idle[0].call(Cmd.flush).isSuccess)
        let start = monotonicSeconds()
        daemon.child.signal(signal)
        #expect(daemon.child.wait(seconds: 20) == .exited(0), "\(daemon.log)")
        #expect(monotonicSeconds() - start < 10)
        #expect(!exists(daemon.socket))
        withExtendedLifetime((idle, silent, stalled, cut)) {}
      }
    }

    @Test func whatWasAcknowledgedBeforeTheEndIsInTheImage() throws {
      try withDaemon { daemon, image, _ in
        let client = try daemon.client()
        #expect(try client.write(1 << 20, filled(0x42, 1 << 20)).isSuccess)
        try daemon.stop()
        let descriptor = open(image, O_RDONLY | O_CLOEXEC)
        defer { close(descriptor) }
        var data = filled(0, 1 << 20)
        #expect(pread(descriptor, &data, data.count, 1 << 20) == data.count)
        expectSame(data, filled(0x42, 1 << 20))
      }
    }

    /// Else the image gets the number of standard output or error, and the daemon's own words go into it.
    @Test(arguments: ["exec 1>&-", "exec 2>&-", "exec 0<&- 1>&- 2>&-"])
    func anImageIsNeverStandardOutput(closing: String) throws {
      try withDaemon(sizeBytes: 1 << 20, limits: closing) { daemon, image, _ in
        try expectZero(daemon.client().read(0, 1 << 20).data)
        try daemon.stop()
        let descriptor = open(image, O_RDONLY | O_CLOEXEC)
        defer { close(descriptor) }
        var data = filled(1, 1 << 20)
        #expect(pread(descriptor, &data, data.count, 0) == data.count)
        expectZero(data)
      }
    }

    @Test func aSecondSignalEndsAtOnce() throws {
      try withDaemon { daemon, _, _ in
        let stalled = try stalledReader(daemon)
        daemon.child.signal(SIGTERM)
        // What comes within 200 ms of the first one being handled is the same wish.
        #expect(eventually(seconds: 3) { daemon.log.contains("SIGTERM: stopping") }, "\(daemon.log)")
        usleep(300_000)
        #expect(daemon.child.status() == nil, "a stalled client is given a moment")
        daemon.child.signal(SIGTERM)
        // Of the 4 s that the client would have been given.
        #expect(daemon.child.wait(seconds: 3) == .exited(EX_IOERR), "\(daemon.log)")
        withExtendedLifetime(stalled) {}
      }
    }

    /// While a reply is still on its way, what is new is refused with ESHUTDOWN, in both phases.
    @Test func whileShuttingDownNewWorkIsRefused() throws {
      for attempt in 1...5 {
        let signalled = Locked<Double?>(nil)
        do { return try expectRefusalOfNewWork { signalled.withLock { $0 = monotonicSeconds() } } } catch let error
          as ClientError where error.isEnd
        {
          // Quiet connections are closed 200 ms after the signal. On a busy machine that may come before the next word of this
          // test; then nothing is known, and it begins anew.
          let late = signalled.withLock { $0 }.map { monotonicSeconds() - $0 >= 0.2 } ?? false
          guard late, attempt < 5 else { throw error }
        }
      }
    }

    private func expectRefusalOfNewWork(_ willSignal: () -> Void) throws {
      try withDaemon { daemon, _, _ in
        let working = try daemon.client()
        let haggling = RawClient(try RawSocket(unix: daemon.socket))
        try haggling.greet()
        #expect(try haggling.finalReply(Option.list).type == OptionReplyType.ack)
        let stalled = try stalledReader(daemon)
        willSignal()
        daemon.child.signal(SIGTERM)
        // Quiet connections are closed after a moment, so these talk at once and go on until they are told.
        working.mayBeShutDown = true
        let isTold = try eventually(seconds: 5) {
          try working.write(40 << 20, filled(1, 512)).error == NBDErrno.shutdown
        }
        #expect(isTold)
        #expect(try haggling.finalReply(Option.info, infoOptionData("")).type == OptionReplyType.shutdown)
        #expect(try working.read(0, 512).error == NBDErrno.shutdown)
        #expect(try haggling.finalReply(Option.abort).type == OptionReplyType.ack)
        #expect((try? RawSocket(unix: daemon.socket)) == nil, "no new connections")
        // The stalled client reads at last: what was begun is finished, the rest is refused, and nothing goes unanswered.
        stalled.mayBeShutDown = true
        var finished = 0
        for _ in 0..<32 {
          let reply = try stalled.receiveReply()
          #expect(reply.isSuccess || reply.error == NBDErrno.shutdown)
          if reply.isSuccess { expectSame(reply.data, filled(0x5c, 1 << 20)) }
          finished += reply.isSuccess ? 1 : 0
        }
        #expect(finished > 0)
        #expect(daemon.child.wait(seconds: 10) == .exited(0))
      }
    }

    @Test func aHangupSignalIsSurvived() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        for signal in [SIGHUP, SIGPIPE] { daemon.child.signal(signal) }
        usleep(100_000)
        #expect(try client.read(0, 512).isSuccess)
      }
    }

    @Test func theSocketIsPrivate() throws {
      try withDaemon { daemon, _, _ in
        var facts = stat()
        #expect(stat(daemon.socket, &facts) == 0)
        #expect(facts.st_mode & 0o777 == 0o600)
      }
    }

    @Test func aStaleSocketIsTakenOver() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let first = try Daemon.start(in: scratch, [image])
        first.killAndWait()
        #expect(exists(first.socket))
        let second = try Daemon.start(in: scratch, [image])
        #expect(try second.client().read(0, 512).isSuccess)
        try second.stop()
      }
    }

    @Test func aSocketInUseIsRefusedAndLeftAlone() throws {
      try withDaemon { daemon, _, scratch in
        let other = try scratch.makeImage("other.img", sizeBytes: 1 << 20)
        let log = try expectRefusal([other], in: scratch, socket: "nbd.sock", status: 69)
        #expect(log.contains(daemon.socket))
        #expect(try daemon.client().read(0, 512).isSuccess)
      }
    }

    @Test func aFileInPlaceOfTheSocketIsNotRemoved() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let file = try scratch.makeImage("precious", sizeBytes: 77)
        let daemon = try Daemon.launch(in: scratch, [image], socket: file)
        let status = daemon.child.wait(seconds: 10)
        #expect(status != nil && status != .exited(0), "\(daemon.log)")
        #expect(exists(file))
      }
    }

    // MARK: image locks

    @Test func aSecondWriterIsRefusedAndToldWhoHoldsTheImage() throws {
      try withDaemon { daemon, image, scratch in
        let log = try expectRefusal([image], in: scratch, status: 75)
        #expect(log.contains("\(daemon.pid)"), "\(log)")
        // Under another name it is still the same image.
        try run("/bin/ln", [image, scratch.file("alias.img")], seconds: 5).orThrow()
        _ = try expectRefusal([scratch.file("alias.img")], in: scratch, status: 75)
        _ = try expectRefusal(["--read-only", image], in: scratch, status: 75)
        #expect(try daemon.client().write(0, filled(1, 512)).isSuccess)
      }
    }

    @Test func aMissingImageIsSaidToBeMissing() throws {
      try withScratch { scratch in
        let log = try expectRefusal([scratch.file("no-such.img")], in: scratch, status: 66)
        #expect(log.contains("no-such.img"))
      }
    }

    @Test(needs("qemu-io", "qemu-nbd")) func qemuAndHoldfastRespectEachOthersLocks() throws {
      try withDaemon { daemon, image, scratch in
        let write = try run("/usr/bin/qemu-io", ["-f", "raw", "-c", "write 0 512", image], seconds: 20)
        #expect(write.status != .exited(0))
        #expect(write.output.contains("lock"))
        // The other way round.
        let theirs = try scratch.makeImage("theirs.img", sizeBytes: 1 << 20)
        let socket = scratch.file("qemu.sock")
        let qemu = try Child(
          "/usr/bin/qemu-nbd", ["-t", "-f", "raw", "-k", socket, theirs], outputPath: scratch.file("qemu.log"))
        scratch.atEnd { qemu.end() }
        #expect(eventually(seconds: 5) { (try? RawSocket(unix: socket)) != nil })
        _ = try expectRefusal([theirs], in: scratch, status: 75)
      }
    }

    @Test(needs("qemu-io")) func readersShareAnImageAndKeepWritersOut() throws {
      try withDaemon(["--read-only"]) { daemon, image, scratch in
        let second = try Daemon.start(in: scratch, ["--read-only", image], socket: "reader.sock")
        #expect(try second.client().read(0, 512).isSuccess)
        let read = try run("/usr/bin/qemu-io", ["-r", "-f", "raw", "-c", "read 0 512", image], seconds: 20)
        #expect(read.status == .exited(0), "\(read.output)")
        let write = try run("/usr/bin/qemu-io", ["-f", "raw", "-c", "write 0 512", image], seconds: 20)
        #expect(write.status != .exited(0))
        _ = try expectRefusal([image], in: scratch, status: 75)
        try second.stop()
        #expect(try daemon.client().read(0, 512).isSuccess)
      }
    }

    // MARK: limits of the process

    @Test func theSoftDescriptorLimitIsRaised() throws {
      try withDaemon(limits: "ulimit -Sn 64; ulimit -Hn 512") { daemon, _, _ in
        let line = text(of: "/proc/\(daemon.pid)/limits").split(separator: "\n").first {
          $0.hasPrefix("Max open files")
        }
        #expect(line?.split(separator: " ").dropFirst(3).prefix(2) == ["512", "512"])
      }
    }

    @Test func runningOutOfDescriptorsNeitherSpinsNorLasts() throws {
      try withDaemon(limits: "ulimit -n 48") { daemon, _, _ in
        var sockets = try (0..<80).map { _ in try RawSocket(unix: daemon.socket) }
        usleep(300_000)
        let before = cpuSeconds(daemon.pid)
        sleep(1)
        #expect(cpuSeconds(daemon.pid) - before < 0.3)
        sockets.removeAll()
        let served = try eventually(seconds: 5) {
          guard let client = try? daemon.client() else { return false }
          return try client.read(0, 512).isSuccess
        }
        #expect(served)
      }
    }

    @Test func theFileSizeLimitIsAnErrorReplyNotADeath() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 64 << 20)
        let daemon = try Daemon.start(in: scratch, [image], limits: "ulimit -f 8192")
        let client = try daemon.client()
        #expect(try client.write(0, filled(1, 4096)).isSuccess)
        #expect(try client.write(32 << 20, filled(1, 4096)).error == NBDErrno.noSpace)
        #expect(try client.read(32 << 20, 4096).isSuccess)
        try daemon.stop()
      }
    }
  }
}

/// Processor time of a process, user and system.
private func cpuSeconds(_ pid: pid_t) -> Double {
  let fields = text(of: "/proc/\(pid)/stat").split(separator: ")").last?.split(separator: " ") ?? []
  guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else { return 0 }
  return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
}
