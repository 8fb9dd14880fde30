// What a service manager hears from the daemon, and the sockets that it opens for it.

import CNbd
import DaemonHarness
import Foundation
import Glibc
import NBDClient
import Testing

/// A datagram socket as NOTIFY_SOCKET names one.
private final class Mailbox {
  private let descriptor: Int32
  private(set) var messages: [String] = []

  /// `name` with a leading `@` is abstract.
  init(_ name: String) throws {
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let length = MemoryLayout<sa_family_t>.size + name.utf8.count + (name.hasPrefix("@") ? 0 : 1)
    withUnsafeMutableBytes(of: &address.sun_path) { path in
      path.copyBytes(from: name.utf8)
      if name.hasPrefix("@") { path[0] = 0 }
    }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(length)) }
    }
    guard result == 0 else { throw HarnessError("bind \(name): \(errnoText(errno))") }
  }

  deinit { close(descriptor) }

  /// Waits until a message has the line `line`.
  func hears(_ line: String, seconds: Double = 10) -> Bool {
    eventually(seconds: seconds) {
      collect()
      return messages.contains { $0.split(separator: "\n").contains { $0 == line } }
    }
  }

  func count(_ line: String) -> Int {
    collect()
    return messages.count { $0.split(separator: "\n").contains { $0 == line } }
  }

  private func collect() {
    var bytes = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
      guard count > 0 else { return }
      messages.append(String(decoding: bytes.prefix(count), as: UTF8.self))
    }
  }
}

extension Integration {
  @Suite struct ServiceManager {
    @Test(arguments: [true, false])
    func itIsToldFromTheStartToTheEnd(abstract: Bool) throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let name = abstract ? "@holdfast-test-\(getpid())" : scratch.file("notify")
        let mailbox = try Mailbox(name)
        let daemon = try Daemon.start(
          in: scratch, [image],
          environment: ["NOTIFY_SOCKET=\(name)", "WATCHDOG_USEC=400000", "WATCHDOG_PID=1"])
        #expect(mailbox.hears("READY=1"), "\(daemon.log)")
        let first = mailbox.messages.first ?? ""
        #expect(first.hasPrefix("READY=1\nSTATUS=serving 1 export, "), "\(first)")
        let client = try daemon.client()
        #expect(mailbox.hears("STATUS=serving 1 export, 1 connection", seconds: 20), "\(mailbox.messages)")
        #expect(mailbox.count("WATCHDOG=1") == 0, "the watchdog is for another process")
        try daemon.stop()
        #expect(mailbox.hears("STOPPING=1"))
        #expect(mailbox.count("EXTEND_TIMEOUT_USEC=15000000") >= 1)
        withExtendedLifetime(client) {}
      }
    }

    /// Idle or under load, and with every worker asleep.
    @Test func theWatchdogIsFedTwiceInEachInterval() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let mailbox = try Mailbox(scratch.file("notify"))
        let daemon = try Daemon.start(
          in: scratch, [image],
          environment: ["NOTIFY_SOCKET=\(scratch.file("notify"))", "WATCHDOG_USEC=400000"])
        #expect(mailbox.hears("WATCHDOG=1"), "\(daemon.log)")
        let client = try daemon.client()
        let before = mailbox.count("WATCHDOG=1")
        #expect(eventually(seconds: 20) { mailbox.count("WATCHDOG=1") >= before + 5 })
        #expect(try client.read(0, 4096).isSuccess)
        try daemon.stop()
      }
    }

    @Test func itIsToldOfReloads() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let (config, socket) = (scratch.file("holdfast.toml"), scratch.file("nbd.sock"))
        let text =
          "[server]\nlisten = [\"nbd+unix:///?socket=\(socket)\"]\n"
          + "[[export]]\nname = \"a\"\npath = \"\(image)\"\n"
        try text.write(toFile: config, atomically: true, encoding: .utf8)
        let mailbox = try Mailbox(scratch.file("notify"))
        let daemon = try Daemon.start(
          in: scratch, config: config, socket: socket, environment: ["NOTIFY_SOCKET=\(scratch.file("notify"))"])
        #expect(mailbox.hears("READY=1"), "\(daemon.log)")
        daemon.child.signal(SIGHUP)
        #expect(mailbox.hears("RELOADING=1"), "\(daemon.log)")
        #expect(eventually(seconds: 10) { mailbox.count("READY=1") == 2 }, "\(mailbox.messages)")
        #expect(mailbox.messages.contains { $0.contains("\nMONOTONIC_USEC=") })
        try daemon.stop()
      }
    }

    @Test(needs("systemd-socket-activate"))
    func socketsOfTheManagerAreServed() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let path = scratch.file("activated.sock")
        let child = try Child(
          "/usr/bin/systemd-socket-activate",
          ["-l", path, "--fdname=nbd", Daemon.binary, "serve", image], outputPath: scratch.file("log"))
        scratch.atEnd {
          child.signal(SIGKILL)
          _ = child.wait(seconds: 10)
        }
        #expect(eventually(seconds: 10) { exists(path) })
        // The first connection starts the daemon.
        let client = try RawClient.connect(unix: path, export: "", structured: true)
        #expect(try client.read(0, 4096).isSuccess)
        #expect(child.output.contains("nbd+unix:///disk.img?socket=\(path)"), "\(child.output)")
        // Nobody asked for a listener beside it.
        #expect(!child.output.contains("10809"), "\(child.output)")
        child.signal(SIGTERM)
        #expect(child.wait(seconds: 12) == .exited(0), "\(child.output)")
        #expect(exists(path), "the socket belongs to the manager")
      }
    }

    @Test(needs("systemd-socket-activate"))
    func listenersOfTheCommandLineContradictThem() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let path = scratch.file("activated.sock")
        let child = try Child(
          "/usr/bin/systemd-socket-activate",
          ["-l", path, Daemon.binary, "serve", "--unix", scratch.file("own.sock"), image],
          outputPath: scratch.file("log"))
        #expect(eventually(seconds: 10) { exists(path) })
        let socket = try? RawSocket(unix: path)
        #expect(child.wait(seconds: 10) == .exited(64))
        #expect(child.output.contains("take --unix and --tcp away"), "\(child.output)")
        withExtendedLifetime(socket) {}
      }
    }

    @Test func libnbdStartsItWithASocket() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let nbd = try Libnbd()
        let arguments = [Daemon.binary, "serve", image]
        var argv = arguments.map { strdup($0) } + [nil]
        defer { for each in argv { free(each) } }
        try Libnbd.check(nbd_connect_systemd_socket_activation(nbd.handle, &argv))
        try nbd.write(4096, filled(7, 4096))
        expectSame(try nbd.read(4096, 4096), filled(7, 4096))
      }
    }

    @Test(needs("systemd-analyze"), arguments: ["holdfast.service", "holdfast@.service"])
    func unitsAreInOrderAndLockedDown(unit: String) throws {
      try withScratch { scratch in
        let package = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        for name in ["holdfast.socket", "holdfast.service", "holdfast@.service"] {
          // verify looks for the binary.
          try shell(
            "sed 's#/usr/bin/holdfast#/bin/true#' '\(package)/systemd/\(name)' > '\(scratch.file(name))'", seconds: 10
          )
          .orThrow()
        }
        let copy = scratch.file(unit.replacing("@", with: "@x"))
        if unit.contains("@") { try shell("cp '\(scratch.file(unit))' '\(copy)'", seconds: 10).orThrow() }
        let verified = try run("/usr/bin/systemd-analyze", ["verify", "--man=no", copy], seconds: 60)
        #expect(verified.status == .exited(0) && !verified.output.contains("nknown"), "\(verified.output)")
        let score = try run(
          "/usr/bin/systemd-analyze", ["security", "--offline=true", "--threshold=15", "\(package)/systemd/\(unit)"],
          seconds: 60)
        #expect(score.status == .exited(0), "\(score.output)")
      }
    }

    @Test(needs("mandoc"), arguments: ["holdfast.1", "holdfast.toml.5", "holdfast-admin.7", "holdfast.8"])
    func manualsAreInOrder(page: String) throws {
      let package = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
      // Other pages that are mentioned may not be installed here.
      let lint = try shell(
        "mandoc -T lint -W style '\(package)/man/\(page)' 2>&1 | grep -v 'manual not found\\|outdated mandoc.db' || true",
        seconds: 20)
      #expect(lint.output == "", "\(lint.output)")
    }
  }
}
