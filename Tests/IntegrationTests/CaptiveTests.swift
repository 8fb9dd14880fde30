// Servers whose life is somebody else's: a command's, their clients', their parent's, one socket's.

import CNbd
import DaemonHarness
import Glibc
import NBDClient
import Testing

/// `holdfast serve ARGUMENTS` in a shell, with `disk.img` of 1 MiB in its directory.
private func captive(
  _ arguments: String, in scratch: Scratch, before: String = "", seconds: Double = 20
) throws -> ToolResult {
  if !exists(scratch.file("disk.img")) { try scratch.makeImage(sizeBytes: 1 << 20) }
  return try run(
    "/bin/bash",
    ["-c", "cd '\(scratch.path)' && export TMPDIR=$PWD && \(before) '\(Daemon.binary)' serve \(arguments)"],
    seconds: seconds)
}

extension Integration {
  @Suite struct CaptiveCommands {
    @Test(needs("nbdinfo")) func theCommandFindsTheServerAndItsOutputStandsAlone() throws {
      try withScratch { scratch in
        let result = try captive(#"--run 'nbdinfo --size "$uri"' disk.img 2>/dev/null"#, in: scratch)
        #expect(result.status == .exited(0) && result.output == "1048576\n", "\(result.output)")
      }
    }

    @Test func withoutAListenerThereIsASocketForTheTime() throws {
      try withScratch { scratch in
        let script = #"""
          --run 'test -S "$unixsocket" && printf "%s|" "$uri" "$unixsocket" "$port" "$exportname" "$nbd"' disk.img 2>/dev/null
          """#
        let result = try captive(script, in: scratch)
        let parts = result.output.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
        #expect(result.status == .exited(0) && parts.count == 6, "\(result.output)")
        let socket = parts[1]
        #expect(socket.hasPrefix(scratch.path + "/holdfast-"))
        #expect(
          parts == [
            "nbd+unix:///disk.img?socket=\(socket)", socket, "", "disk.img",
            "nbd:unix:\(socket):exportname=disk.img", "",
          ])
        // The socket is gone, and so is its directory.
        #expect(try shell("ls '\(scratch.path)'", seconds: 5).output == "disk.img\n")
      }
    }

    @Test func listenersThatAreNamedAreUsed() throws {
      try withScratch { scratch in
        let arguments = #"--unix own.sock --tcp 127.0.0.1:0 --run 'echo "$port|$unixsocket|$uri"' disk.img 2>/dev/null"#
        let result = try captive(arguments, in: scratch)
        let parts = result.line.split(separator: "|").map(String.init)
        #expect(result.status == .exited(0) && parts.count == 3, "\(result.output)")
        #expect(UInt16(parts[0]) ?? 0 > 0)
        #expect(parts[1] == scratch.file("own.sock"))
        #expect(parts[2] == "nbd+unix:///disk.img?socket=\(scratch.file("own.sock"))")
        #expect(!exists(scratch.file("own.sock")))
      }
    }

    @Test(
      arguments: [("exit 7", 7), ("kill -KILL $$", 137), ("no-such-command-here", 127), ("true", 0)]
        as [(String, Int32)])
    func theStatusIsTheCommands(command: String, status: Int32) throws {
      try withScratch { scratch in
        let result = try captive("--run '\(command)' disk.img", in: scratch)
        #expect(result.status == .exited(status), "\(result.output)")
      }
    }

    @Test func theCommandIsNotRunWhenNothingIsServed() throws {
      try withScratch { scratch in
        let missing = try captive("--run 'touch ran' missing.img", in: scratch)
        #expect(missing.status == .exited(66))
        let nowhere = try captive("--run 'touch ran' --unix no/where.sock disk.img", in: scratch)
        #expect(nowhere.status == .exited(73))
        #expect(!exists(scratch.file("ran")))
      }
    }

    @Test(needs("nbdcopy")) func dataThatIsLostIsToldThoughTheCommandIsContent() throws {
      try withScratch { scratch in
        let copy = #"head -c 65536 /dev/urandom | nbdcopy - "$uri""#
        let result = try captive("--fault sync:error=EIO --run '\(copy); true' disk.img", in: scratch)
        #expect(result.status == .exited(74), "\(result.output)")
        #expect(result.output.contains("acknowledged writes may be lost"), "\(result.output)")
      }
    }

    @Test func theCommandGetsItsDescriptorsAndNoOthers() throws {
      try withScratch { scratch in
        // The test runner leaves some open itself.
        let result = try captive(
          "--run 'ls /proc/self/fd >theirs' disk.img", in: scratch, before: "ls /proc/self/fd >ours;")
        #expect(result.status == .exited(0), "\(result.output)")
        #expect(text(of: scratch.file("ours")).contains("0\n1\n"))
        #expect(text(of: scratch.file("theirs")) == text(of: scratch.file("ours")))
      }
    }

    @Test func aSignalIsPassedOn() throws {
      try withScratch { scratch in
        try scratch.makeImage(sizeBytes: 1 << 20)
        let child = try Child(
          Daemon.binary,
          ["serve", "--run", "touch '\(scratch.file("runs"))'; exec sleep 60", scratch.file("disk.img")],
          outputPath: scratch.file("log"), environment: ["TMPDIR=\(scratch.path)"])
        scratch.atEnd { child.end() }
        #expect(eventually(seconds: 10) { exists(scratch.file("runs")) }, "\(child.output)")
        child.signal(SIGTERM)
        #expect(child.wait(seconds: 10) == .exited(128 + SIGTERM), "\(child.output)")
        #expect(try shell("ls '\(scratch.path)'", seconds: 5).output == "disk.img\nlog\nruns\n")
      }
    }

    /// Where SIGCHLD is ignored the kernel throws the status of children away.
    @Test func aParentThatIgnoresItsChildrenChangesNothing() throws {
      try withScratch { scratch in
        let result = try captive("--run 'exit 3' disk.img", in: scratch, before: "trap '' CHLD;")
        #expect(result.status == .exited(3), "\(result.output)")
      }
    }

    @Test(arguments: [
      ("--run true --exit-when-idle", "contradict each other"), ("--run true --inetd", "contradict each other"),
      ("--run ''", "the command is empty"), ("--inetd --pid-file p", "contradict each other"),
      ("--inetd --unix s </dev/null", "not a connected stream socket"),
    ])
    func whatCannotBeMeantIsRefused(arguments: String, text: String) throws {
      try withScratch { scratch in
        let result = try captive("disk.img \(arguments)", in: scratch)
        #expect(result.status == .exited(64) && result.output.contains(text), "\(result.output)")
      }
    }
  }

  @Suite struct IdleServers {
    @Test func theServerGoesWithItsLastClient() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        // The harness looks whether somebody listens: that is no client.
        let daemon = try Daemon.start(in: scratch, ["--exit-when-idle", image])
        let first = try daemon.client()
        let second = try daemon.client()
        #expect(try second.write(0, filled(7, 4096)).isSuccess)
        try first.disconnect()
        usleep(300_000)
        #expect(daemon.child.status() == nil, "one is left")
        #expect(try second.read(0, 4096).isSuccess)
        try second.disconnect()
        #expect(daemon.child.wait(seconds: 10) == .exited(0), "\(daemon.log)")
        #expect(daemon.log.contains("the last client has left"), "\(daemon.log)")
        #expect(!exists(daemon.socket))
      }
    }

    @Test func aClientThatIsCutOffHasLeft() throws {
      try withScratch { scratch in
        let daemon = try Daemon.start(in: scratch, ["--exit-when-idle", scratch.makeImage(sizeBytes: 1 << 20)])
        do { _ = try daemon.client() }
        #expect(daemon.child.wait(seconds: 10) == .exited(0), "\(daemon.log)")
      }
    }
  }

  @Suite struct PidFiles {
    @Test func itNamesTheProcessAsLongAsItListens() throws {
      try withScratch { scratch in
        let path = scratch.file("pid")
        let daemon = try Daemon.start(in: scratch, ["--pid-file", path, scratch.makeImage(sizeBytes: 1 << 20)])
        #expect(eventually(seconds: 5) { text(of: path) == "\(daemon.pid)\n" })
        #expect(try run("/usr/bin/stat", ["-c", "%a", path], seconds: 5).line == "644")
        try daemon.stop()
        #expect(!exists(path))
      }
    }

    @Test func theFileOfARunningServerIsRefused() throws {
      try withScratch { scratch in
        let path = scratch.file("pid")
        let daemon = try Daemon.start(in: scratch, ["--pid-file", path, scratch.makeImage(sizeBytes: 1 << 20)])
        #expect(eventually(seconds: 5) { exists(path) })
        let other = try scratch.makeImage("other.img", sizeBytes: 1 << 20)
        let second = try Daemon.launch(in: scratch, ["--pid-file", path, other], socket: scratch.file("2.sock"))
        #expect(second.child.wait(seconds: 10) == .exited(75))
        #expect(second.log.contains("belongs to a running server, process \(daemon.pid)"), "\(second.log)")
        #expect(text(of: path) == "\(daemon.pid)\n")
        try daemon.stop()
      }
    }

    @Test func whatAKilledServerLeftIsReplaced() throws {
      try withScratch { scratch in
        let path = scratch.file("pid")
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let first = try Daemon.start(in: scratch, ["--pid-file", path, image])
        #expect(eventually(seconds: 5) { exists(path) })
        first.killAndWait()
        #expect(text(of: path) == "\(first.pid)\n")
        let second = try Daemon.start(in: scratch, ["--pid-file", path, image])
        #expect(eventually(seconds: 5) { text(of: path) == "\(second.pid)\n" })
        try second.stop()
        #expect(!exists(path))
      }
    }

    @Test func nothingElseIsOverwritten() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let precious = scratch.file("precious")
        try shell("echo 'not a number' >'\(precious)'", seconds: 5).orThrow()
        for path in [precious, image, scratch.path, "/dev/null"] {
          let daemon = try Daemon.launch(in: scratch, ["--pid-file", path, image], socket: scratch.file("s"))
          #expect(daemon.child.wait(seconds: 10) == .exited(73), "\(path): \(daemon.log)")
        }
        #expect(text(of: precious) == "not a number\n")
        let daemon = try Daemon.launch(
          in: scratch, ["--pid-file", scratch.file("no/where/pid"), image], socket: scratch.file("s"))
        #expect(daemon.child.wait(seconds: 10) == .exited(73))
        #expect(daemon.log.contains("No such file or directory"), "\(daemon.log)")
      }
    }
  }

  @Suite struct SingleSockets {
    /// libnbd starts a server with a socket as its standard input and output, here also as its standard error: a warning would
    /// break the conversation.
    @Test func nothingIsPrintedOnTheSocket() throws {
      try withScratch { scratch in
        try scratch.makeImage(sizeBytes: 1 << 20)
        let nbd = try Libnbd()
        let script = "exec \"$0\" serve --inetd --log-level trace --fault read:delay=1us \"$1\" 2>&1"
        let arguments = ["/bin/bash", "-c", script, Daemon.binary, scratch.file("disk.img")]
        var argv = arguments.map { strdup($0) } + [nil]
        defer { for each in argv { free(each) } }
        try Libnbd.check(nbd_connect_command(nbd.handle, &argv))
        try nbd.write(4096, filled(7, 4096))
        expectSame(try nbd.read(4096, 4096), filled(7, 4096))
      }
    }

    @Test(arguments: ["--no-such-option", "--unix s", "missing.img"])
    func whatIsWrongIsNotToldTheClient(arguments: String) throws {
      try withScratch { scratch in
        try scratch.makeImage(sizeBytes: 1 << 20)
        var ends: [Int32] = [-1, -1]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
        let number = dup(ends[1])  // Not closed on exec: the shell passes it on.
        let child = try Child(
          "/bin/bash",
          [
            "-c",
            "cd '\(scratch.path)'; exec '\(Daemon.binary)' serve --inetd \(arguments) <&\(number) >&\(number) 2>&\(number) \(number)>&-",
          ], outputPath: scratch.file("log"))
        scratch.atEnd { child.end() }
        close(number)
        close(ends[1])
        defer { close(ends[0]) }
        let status = child.wait(seconds: 10)
        #expect(status == .exited(64) || status == .exited(66), "\(child.output)")
        var bytes = [UInt8](repeating: 0, count: 64)
        #expect(recv(ends[0], &bytes, bytes.count, 0) == 0, "\(String(decoding: bytes, as: UTF8.self))")
      }
    }

    @Test(needs("systemd-socket-activate")) func inetdStartsOneForEachClient() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let path = scratch.file("inetd.sock")
        let child = try Child(
          "/usr/bin/systemd-socket-activate",
          ["--accept", "--inetd", "-l", path, Daemon.binary, "serve", "--inetd", "--read-only", image],
          outputPath: scratch.file("log"))
        scratch.atEnd { child.end() }
        // The file is there before anybody listens.
        var connected: RawClient?
        #expect(
          eventually(seconds: 10) {
            connected = try? RawClient.connect(unix: path, export: "", structured: true)
            return connected != nil
          }, "\(child.output)")
        let first = try #require(connected)
        let second = try RawClient.connect(unix: path, export: "disk.img", structured: true)
        #expect(try first.read(0, 4096).isSuccess)
        #expect(try second.read(0, 4096).isSuccess)
        try first.disconnect()
        #expect(try second.read(0, 4096).isSuccess)
        try second.disconnect()
        // Both servers are gone: nobody keeps a writer from the image.
        #expect(eventually(seconds: 10) { (try? Daemon.start(in: scratch, [image]).stop()) != nil }, "\(child.output)")
      }
    }
  }

  @Suite struct Orphans {
    @Test func theServerGoesWithItsParent() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let socket = scratch.file("nbd.sock")
        let parent = try Child(
          "/bin/bash", ["-c", "'\(Daemon.binary)' serve --exit-with-parent --unix '\(socket)' '\(image)' & wait"],
          outputPath: scratch.file("log"))
        scratch.atEnd { parent.end() }
        #expect(eventually(seconds: 10) { (try? RawSocket(unix: socket)) != nil }, "\(parent.output)")
        parent.signal(SIGKILL)
        _ = parent.wait(seconds: 5)
        #expect(eventually(seconds: 10) { !exists(socket) }, "\(parent.output)")
        #expect(parent.output.contains("SIGTERM: stopping"), "\(parent.output)")
      }
    }

    /// Its parent ends before it can ask for a signal.
    @Test func anOrphanServesNobody() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let wait = "while kill -0 $1 2>/dev/null; do sleep 0.02; done; echo parent $(ps -o ppid= $$)"
        let serve = "exec \"$2\" serve --exit-with-parent --unix \"$3\" \"$4\""
        let parent = try Child(
          "/bin/bash",
          [
            "-c", "setsid bash -c '\(wait); \(serve)' x $$ \"$0\" \"$1\" \"$2\" &", Daemon.binary,
            scratch.file("nbd.sock"),
            image,
          ], outputPath: scratch.file("log"))
        #expect(parent.wait(seconds: 5) == .exited(0))
        #expect(
          eventually(seconds: 10) { parent.output.contains("the parent process has ended already") }, "\(parent.output)"
        )
        #expect(!exists(scratch.file("nbd.sock")))
      }
    }
  }
}
