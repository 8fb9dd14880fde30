// Tests that mostly wait (deadlines, time-outs, slow clients). They run side by side, each against a daemon of its own.

import DaemonHarness
import Glibc
import NBDClient
import Testing

@Suite(.ownThreads) struct Patience {
  @Test func aSilentHandshakeIsEndedAfterTenSeconds() throws {
    try withDaemon { daemon, _, _ in
      let start = monotonicSeconds()
      let silent = try RawSocket(unix: daemon.socket)
      _ = try silent.receive(18)
      let rest = try silent.receiveUntilEnd()
      let seconds = monotonicSeconds() - start
      #expect(rest.isEmpty)
      #expect(seconds > 9 && seconds < 20, "ended after \(seconds) s")
    }
  }

  /// Sending a byte now and then, or whole options, does not extend the deadline.
  @Test(arguments: [false, true]) func aTricklingHandshakeIsEndedAfterTenSeconds(wholeOptions: Bool) throws {
    try withDaemon { daemon, _, _ in
      let start = monotonicSeconds()
      let client = RawClient(try RawSocket(unix: daemon.socket))
      try client.greet()
      let bytes = optionBytes(99, filled(0, 4000))
      var at = 0
      var wasEnded = false
      while monotonicSeconds() - start < 20 {
        do {
          if wholeOptions {
            _ = try client.finalReply(99)
          } else {
            try client.socket.send([bytes[at]])
            at += 1
          }
        } catch let error as ClientError where error.isEnd {
          wasEnded = true
          break
        }
        sleep(1)
      }
      #expect(wasEnded)
      #expect(monotonicSeconds() - start > 9)
    }
  }

  /// The deadline is for handshakes: a client in transmission may be silent for as long as it likes.
  @Test func anIdleClientStaysConnected() throws {
    try withDaemon { daemon, _, _ in
      let client = try daemon.client()
      sleep(13)
      #expect(try client.read(0, 512).isSuccess)
      #expect(try client.call(Cmd.flush).isSuccess)
    }
  }

  @Test func anImageReplacedByRenameIsReported() throws {
    try withDaemon { daemon, image, scratch in
      let client = try daemon.client()
      #expect(try client.write(0, filled(1, 512)).isSuccess)
      let other = try scratch.makeImage("other.img", sizeBytes: 64 << 20)
      #expect(rename(other, image) == 0)
      #expect(eventually(seconds: 25) { daemon.log.contains("names another file") }, "\(daemon.log)")
      try expectSame(client.read(0, 512).data, filled(1, 512))
    }
  }

  /// Eight times 32 MiB are all the memory for payloads there is; a ninth and a tenth client must still get through.
  @Test func clientsStalledInTheirPayloadDoNotStopOthers() throws {
    try withDaemon { daemon, _, _ in
      let part = filled(0x31, 31 << 20)
      let stalled = try (0..<9).map { _ in
        let client = try daemon.client()
        try client.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: 32 << 20))
        return client
      }
      // All at once, as far as the server takes it.
      var sent = [Int](repeating: 0, count: stalled.count)
      var lastProgress = monotonicSeconds()
      while monotonicSeconds() - lastProgress < 1.5, sent.contains(where: { $0 < part.count }) {
        for index in stalled.indices where sent[index] < part.count {
          let piece = Array(part[sent[index]..<min(sent[index] + (256 << 10), part.count)])
          let count = try stalled[index].socket.sendWithoutWaiting(piece)
          sent[index] += count
          if count > 0 { lastProgress = monotonicSeconds() }
        }
        usleep(500)
      }
      let tenth = try RawClient.connect(unix: daemon.socket, timeoutSeconds: 120)
      let data = filled(0x32, 32 << 20)
      let start = monotonicSeconds()
      #expect(try tenth.write(32 << 20, data).isSuccess)
      // Two rounds of 30 s: some of the stalled ones get further when the first is closed.
      #expect(monotonicSeconds() - start < 120)
      try expectSame(tenth.read(32 << 20, 32 << 20).data, data)
      try expectZero(tenth.read(0, 1 << 20).data)
    }
  }

  @Test func aCommandThatDoesNotEndIsKilled() throws {
    try withScratch { scratch in
      let image = try scratch.makeImage(sizeBytes: 1 << 20)
      let script = "trap '' TERM; touch '\(scratch.file("runs"))'; while :; do sleep 0.1; done"
      let child = try Child(
        Daemon.binary, ["serve", "--run", script, image], outputPath: scratch.file("log"),
        environment: ["TMPDIR=\(scratch.path)"])
      scratch.atEnd { child.end() }
      #expect(eventually(seconds: 10) { exists(scratch.file("runs")) }, "\(child.output)")
      child.signal(SIGTERM)
      #expect(child.wait(seconds: 12) == .exited(128 + SIGKILL), "\(child.output)")
    }
  }
}
