// The admin socket of the built daemon, and the commands that use it.

import DaemonHarness
import Foundation
import NBDClient
import Testing

/// A daemon with an admin socket, and the command line beside it.
private struct Subject {
  let daemon: Daemon
  let scratch: Scratch
  let admin: String

  init(_ scratch: Scratch, _ arguments: [String]) throws {
    self.scratch = scratch
    admin = scratch.file("admin.sock")
    daemon = try Daemon.start(in: scratch, ["--admin", admin] + arguments)
  }

  /// `holdfast COMMAND … --admin SOCKET`.
  func holdfast(_ arguments: String...) throws -> ToolResult {
    try run(Daemon.binary, arguments + ["--admin", admin], seconds: 30)
  }

  /// A line to the socket and the reply.
  func ask(_ line: String) throws -> [String: Any] {
    let socket = try RawSocket(unix: admin)
    defer { socket.close() }
    return try Self.ask(socket, line)
  }

  static func ask(_ socket: RawSocket, _ line: String) throws -> [String: Any] {
    try socket.send(Array((line + "\n").utf8))
    return try reply(socket)
  }

  /// The next line.
  static func reply(_ socket: RawSocket) throws -> [String: Any] {
    var line: [UInt8] = []
    while true {
      let byte = try socket.receive(1)
      if byte == [UInt8(ascii: "\n")] { break }
      line += byte
    }
    return try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any] ?? [:]
  }

  /// The message of a refusal, nil when it was none.
  func refusal(_ line: String) throws -> String? {
    (try ask(line)["error"] as? [String: Any])?["message"] as? String
  }
}

private func withSubject(
  sizeBytes: UInt64 = 8 << 20, _ arguments: [String] = [], body: (Subject, RawClient) throws -> Void
) throws {
  try withScratch { scratch in
    let image = try scratch.makeImage("root.img", sizeBytes: sizeBytes)
    let subject = try Subject(scratch, arguments + ["--export", "root=\(image)"])
    try body(subject, try subject.daemon.client("root"))
    try subject.daemon.stop()
    #expect(!exists(subject.admin), "the admin socket is still there")
  }
}

extension Integration {
  @Suite struct Admin {
    // MARK: The protocol

    @Test func theSocketIsForItsOwnerAlone() throws {
      try withSubject { subject, _ in
        let mode = try FileManager.default.attributesOfItem(atPath: subject.admin)[.posixPermissions] as? Int
        #expect(mode == 0o600)
      }
    }

    @Test func requestsOnOneConnectionAreAnsweredInOrder() throws {
      try withSubject { subject, _ in
        let socket = try RawSocket(unix: subject.admin)
        let lines = (0..<20).map { #"{"id": \#($0), "command": "\#($0 % 3 == 0 ? "fly" : "status")"}"# }
        try socket.send(Array((lines.joined(separator: "\n") + "\n\n").utf8))
        for id in 0..<20 {
          let reply = try Subject.reply(socket)
          #expect(reply["id"] as? Int == id)
          #expect(reply["ok"] as? Bool == (id % 3 != 0))
          #expect(reply["schema"] as? Int == 1)
        }
      }
    }

    @Test func badLinesAreAnsweredAndTheConnectionGoesOn() throws {
      try withSubject { subject, _ in
        let socket = try RawSocket(unix: subject.admin)
        for line in [
          "x", "{", "[]", "{}", "\u{1}", #"{"command": "fly"}"#, #"{"command": "status", "export": "root"}"#,
        ] {
          let error = try Subject.ask(socket, line)["error"] as? [String: Any]
          #expect(error?["status"] as? Int == 64, "\(line)")
          #expect((error?["message"] as? String)?.isEmpty == false)
        }
        #expect(try Subject.ask(socket, #"{"command": "status"}"#)["ok"] as? Bool == true)
      }
    }

    @Test func aLineWithoutAnEndIsTooLong() throws {
      try withSubject { subject, client in
        let socket = try RawSocket(unix: subject.admin)
        // It may be closed before all of it has been sent.
        try? socket.send(filled(UInt8(ascii: "["), 200_000))
        let error = try Subject.reply(socket)["error"] as? [String: Any]
        #expect(error?["message"] as? String == "a line has more than 65536 bytes; the connection is closed")
        #expect(throws: ClientError.self) { try Subject.reply(socket) }
        #expect(try client.read(0, 512).isSuccess)
      }
    }

    @Test func aRequestNeedsNoLineEndWhenNothingFollows() throws {
      try withSubject { subject, _ in
        let socket = try RawSocket(unix: subject.admin)
        try socket.send(Array(#"{"command": "status"}"#.utf8))
        socket.shutdownWrite()
        #expect(try Subject.reply(socket)["ok"] as? Bool == true)
        let half = try RawSocket(unix: subject.admin)
        try half.send(Array(#"{"command": "connection-ki"#.utf8))
        half.shutdownWrite()
        #expect(try Subject.reply(half)["ok"] as? Bool == false)
      }
    }

    @Test func oneClientTooManyIsToldAndTheOthersGoOn() throws {
      try withSubject { subject, client in
        var sockets = try (0..<16).map { _ in try RawSocket(unix: subject.admin) }
        for socket in sockets { #expect(try Subject.ask(socket, #"{"command": "status"}"#)["ok"] as? Bool == true) }
        let late = try RawSocket(unix: subject.admin)
        let error = try Subject.reply(late)["error"] as? [String: Any]
        #expect(error?["status"] as? Int == 69)
        #expect(
          try subject.holdfast("status").output
            == "error: 16 admin clients are connected, the most there may be; try again later\n")
        #expect(try client.read(0, 512).isSuccess)
        sockets.removeLast().close()
        #expect(try eventually(seconds: 5) { try subject.holdfast("status").status == .exited(0) })
      }
    }

    /// Whatever comes, the daemon answers those who ask properly, and serves.
    @Test(arguments: [1, UInt64.random(in: 2 ... .max)]) func noBytesDoHarm(seed: UInt64) throws {
      try withSubject { subject, client in
        var random = Random(seed: seed)
        for round in 0..<150 {
          let socket = try RawSocket(unix: subject.admin, timeoutSeconds: 5)
          var bytes = Array(#"{"id": 1, "command": "export-resize", "export": "root", "size": "1K"}"#.utf8) + [10]
          for _ in 0..<random.next() % 6 {
            bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
          }
          if round % 3 == 0 { bytes += random.bytes(Int(random.next() % 4096)) }
          try? socket.send(bytes)
          if round % 2 == 0 { socket.shutdownWrite() }
          if round % 5 != 0 { _ = try? socket.receive(1) }
          round % 7 == 0 ? socket.reset() : socket.close()
        }
        #expect(try subject.ask(#"{"command": "status"}"#)["ok"] as? Bool == true, "seed \(seed)")
        #expect(try client.read(0, 512).isSuccess, "seed \(seed)")
      }
    }

    // MARK: Commands

    @Test func withoutADaemonOneSentenceSaysWhatToDo() throws {
      try withScratch { scratch in
        let path = scratch.file("none.sock")
        for arguments in [
          ["status"], ["status", "--watch"], ["export", "list"], ["export", "pause", "x"], ["connections"],
          ["connections", "kill", "3"],
          ["snapshot", "a", "b"], ["clear-error", "a"], ["reload"],
        ] {
          let result = try run(Daemon.binary, arguments + ["--admin", path], seconds: 20)
          #expect(result.status == .exited(69), "\(arguments)")
          #expect(
            result.output
              == "error: no daemon answers at \(path) (No such file or directory); start one (systemctl start holdfast), or name "
              + "its socket: --admin PATH\n")
        }
      }
    }

    @Test func statusShowsWhatHappens() throws {
      try withSubject { subject, client in
        for _ in 0..<10 { #expect(try client.write(0, filled(1, 4096)).isSuccess) }
        let text = try subject.holdfast("status").orThrow().output
        #expect(text.contains("1 export, 1 connection"))
        #expect(text.contains("\nroot    8.0 MiB"))
        let json = try subject.holdfast("status", "--json").orThrow().output
        let status = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        #expect(status["schema"] as? Int == 1)
        let export = (status["exports"] as? [[String: Any]])?.first
        #expect(export?["name"] as? String == "root")
        let writes = (export?["commands"] as? [String: Any])?["write"] as? [String: Any]
        #expect(writes?["requests"] as? Int == 10)
        #expect(writes?["bytes"] as? Int == 40_960)
      }
    }

    @Test func watchingPrintsLinesWhereThereIsNoScreen() throws {
      try withSubject { subject, client in
        let watch = try Child(
          Daemon.binary, ["status", "--watch", "--admin", subject.admin], outputPath: subject.scratch.file("watch.txt"))
        defer { watch.end() }
        #expect(
          eventually(seconds: 10) { watch.output.split(separator: "\n").count >= 3 }, "\(watch.output)")
        #expect(!watch.output.contains("\u{1b}"))
        #expect(watch.output.split(separator: "\n").allSatisfy { $0.contains("  root  reads ") })
        watch.signal(SIGINT)
        #expect(watch.wait(seconds: 5) != nil)
        #expect(try client.read(0, 512).isSuccess)
      }
    }

    @Test(needs("script")) func watchingOnATerminalUsesItsOtherScreen() throws {
      try withSubject { subject, _ in
        let file = subject.scratch.file("typescript")
        let watch = try Child(
          "/usr/bin/script",
          ["-qefc", "stty cols 100 rows 20; exec \(Daemon.binary) status --watch --admin \(subject.admin)", file],
          outputPath: subject.scratch.file("script.txt"))
        defer { watch.end() }
        #expect(eventually(seconds: 10) { text(of: file).split(separator: "\u{1b}[H").count >= 3 }, "\(text(of: file))")
        _ = try run("/usr/bin/pkill", ["-INT", "-P", "\(watch.pid)"], seconds: 5)
        #expect(watch.wait(seconds: 5) == .exited(0))
        let drawn = text(of: file)
        #expect(drawn.contains("\u{1b}[?1049h\u{1b}[?25l"))
        #expect(drawn.contains("\u{1b}[?25h\u{1b}[?1049l"))
        #expect(drawn.contains("EXPORT"))
      }
    }

    @Test func aKilledConnectionEndsAndTheOthersGoOn() throws {
      try withSubject { subject, client in
        let other = try subject.daemon.client("root")
        let list = try subject.holdfast("connections", "list", "--json").orThrow().output
        let json = try JSONSerialization.jsonObject(with: Data(list.utf8)) as? [String: Any]
        let ids = (json?["connections"] as? [[String: Any]])?.compactMap { $0["id"] as? Int } ?? []
        #expect(ids.count == 2)
        #expect(try subject.holdfast("connections").orThrow().output.split(separator: "\n").count == 3)
        let first = try #require(ids.min())
        #expect(
          try subject.holdfast("connections", "kill", "\(first)").orThrow().output == "connection \(first) is cut\n")
        #expect(eventually(seconds: 5) { client.socket.hasEnded() })
        #expect(try other.read(0, 512).isSuccess)
        let again = try subject.holdfast("connections", "kill", "\(first)")
        #expect(again.status == .exited(66))
        #expect(again.output == "error: there is no connection \(first); \"status\" lists those there are\n")
        #expect(subject.daemon.log.contains("disconnected: an operator has cut it"))
        #expect(subject.daemon.log.contains("admin: connection-kill done"))
      }
    }

    @Test func aClearedErrorLetsFlushWorkAgain() throws {
      try withSubject(["--fault", "sync:error=EIO,nth=1"]) { subject, client in
        #expect(try client.call(Cmd.flush).error == NBDErrno.io)
        #expect(try client.call(Cmd.flush).error == NBDErrno.io)
        let json = try subject.holdfast("status").orThrow().output
        #expect(json.contains("SYNC FAILED: Input/output error"))
        #expect(
          try subject.holdfast("clear-error", "root").orThrow().output
            == "export \"root\" can be synced again; it had failed with: Input/output error\n")
        #expect(try client.call(Cmd.flush).isSuccess)
        #expect(
          try subject.holdfast("clear-error", "root").orThrow().output
            == "export \"root\" has no error; nothing was changed\n")
        #expect(subject.daemon.log.contains("the error of a failed sync was cleared: Input/output error"))
        let none = try subject.holdfast("clear-error", "rot")
        #expect(none.status == .exited(66))
        #expect(none.output == "error: there is no export \"rot\"; did you mean \"root\"?\n")
      }
    }

    // MARK: Exports

    @Test func exportsComeAndGo() throws {
      try withSubject { subject, client in
        let more = try subject.scratch.makeImage("more.img", sizeBytes: 4 << 20)
        #expect(try subject.holdfast("export", "add", "more", more).orThrow().output == "export \"more\" is served\n")
        let second = try subject.daemon.client("more")
        #expect(second.export.sizeBytes == 4 << 20)
        let list = try subject.holdfast("export", "list").orThrow().output
        #expect(list.contains("\nmore    4.0 MiB        1  ok     \(more)\n"), "\(list)")

        let busy = try subject.holdfast("export", "remove", "more")
        #expect(busy.status != .exited(0))
        #expect(busy.output.hasPrefix("error: "))
        #expect(try second.read(0, 512).isSuccess)

        #expect(
          try subject.holdfast("export", "resize", "more", "8M").orThrow().output
            == "export \"more\" has 8.0 MiB, was 4.0 MiB; connect again to see it\n")
        #expect(try subject.daemon.client("more").export.sizeBytes == 8 << 20)
        let smaller = try subject.holdfast("export", "resize", "more", "1M")
        #expect(smaller.status != .exited(0))

        #expect(
          try subject.holdfast("export", "pause", "more").orThrow().output == "export \"more\" is paused and quiet\n")
        try second.submit(Cmd.read, offset: 0, length: 512)
        #expect(!second.socket.isReadable(withinMilliseconds: 200))
        #expect(try client.read(0, 512).isSuccess, "another export is not paused")
        #expect(try subject.holdfast("export", "resume", "more").orThrow().output == "export \"more\" goes on\n")
        #expect(try second.receiveReply().isSuccess)

        let gone = try subject.holdfast("export", "remove", "--mode", "now", "--json", "more").orThrow().output
        #expect(gone.contains("\"gone\": true"), "\(gone)")
        #expect(eventually(seconds: 5) { second.socket.hasEnded() })
        #expect(throws: (any Error).self) { try subject.daemon.client("more") }
        #expect(try client.read(0, 512).isSuccess)
      }
    }

    @Test func mistakesOfTheCommandLineAreToldBeforeAnythingHappens() throws {
      try withSubject { subject, _ in
        #expect(
          try subject.refusal(#"{"command": "export-add", "name": "x", "path": "x.img"}"#)?.contains(
            "write it from the root") == true)
        #expect(
          try subject.refusal(#"{"command": "export-add", "path": "/srv/x.img"}"#) == "export 1: \"name\" is missing")
        #expect(
          try subject.refusal(#"{"command": "export-add", "name": "x", "path": "/srv/x.img", "raed-only": true}"#)
            == "export \"x\": unknown key \"raed-only\"; did you mean \"read-only\"?")
        #expect(
          try subject.refusal(#"{"command": "export-add", "name": "x", "path": "/srv/x", "description": "a\u0000b"}"#)
            == "export \"x\": \"description\" has a NUL byte; leave it out")
        #expect(
          try subject.refusal(#"{"command": "export-remove", "export": ""}"#)
            == "an export is removed by its own name; this one is empty")
        #expect(
          try subject.refusal(#"{"command": "export-remove", "export": "root", "mode": "gently"}"#)
            == "\"mode\" is \"gently\"; write refuse, hide, drain, now")
        #expect(
          try subject.refusal(#"{"command": "export-resize", "export": "root", "size": -5}"#)?.hasPrefix("\"size\": ")
            == true)
        #expect(
          try subject.refusal(#"{"command": "connection-kill", "connection": -1}"#)?.hasPrefix("\"connection\" is -1")
            == true)
        #expect(
          try subject.refusal(#"{"command": "snapshot", "export": "root", "file": "x"}"#)?.contains(
            "write it from the root") == true)
        let none = try subject.holdfast("reload")
        #expect(none.status == .exited(64), "there is no configuration: \(none.output)")
      }
    }
  }
}
