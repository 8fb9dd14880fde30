// SIGHUP: the configuration is read again, and only clients of what has changed notice.

import DaemonHarness
import Foundation
import Glibc
import Locking
import NBDClient
import Testing

/// A daemon and its configuration, which a test rewrites.
private final class Reloadable {
  let scratch: Scratch
  let daemon: Daemon
  let config: String
  private var reloads = 0

  init(_ scratch: Scratch, _ exports: String, environment: [String] = []) throws {
    self.scratch = scratch
    config = scratch.file("holdfast.toml")
    try Self.write(exports, config, scratch)
    daemon = try Daemon.start(
      in: scratch, config: config, socket: scratch.file("nbd.sock"), environment: environment)
  }

  private static func write(_ exports: String, _ path: String, _ scratch: Scratch) throws {
    try "[server]\nlisten = [\"nbd+unix:///?socket=\(scratch.file("nbd.sock"))\"]\n\(exports)"
      .write(toFile: path, atomically: true, encoding: .utf8)
  }

  /// What the daemon logged while it reloaded.
  @discardableResult
  func reload(_ exports: String) throws -> String {
    try Self.write(exports, config, scratch)
    let before = daemon.log
    daemon.child.signal(SIGHUP)
    reloads += 1
    let isOver = eventually(seconds: 20) {
      let log = daemon.log
      return log.count(of: "the configuration is in force") + log.count(of: "nothing was changed") >= reloads
    }
    guard isOver else { throw HarnessError("no reload:\n\(daemon.log)") }
    return String(daemon.log.dropFirst(before.count))
  }

  func client(_ export: String) throws -> RawClient {
    try RawClient.connect(unix: daemon.socket, export: export, timeoutSeconds: 20)
  }

  func goReply(_ export: String) throws -> UInt32 {
    let client = RawClient(try RawSocket(unix: daemon.socket, timeoutSeconds: 20))
    try client.greet()
    return try client.finalReply(Option.go, infoOptionData(export)).type
  }
}

extension String {
  fileprivate func count(of part: String) -> Int { components(separatedBy: part).count - 1 }
}

private func table(_ name: String, _ path: String, _ more: String = "") -> String {
  "[[export]]\nname = \"\(name)\"\npath = \"\(path)\"\n\(more)\n"
}

extension Integration {
  @Suite struct Reload {
    @Test func exportsComeAndGoWithoutTheOthersNoticing() throws {
      try withScratch { scratch in
        for name in ["a", "b", "c"] { try scratch.makeImage("\(name).img", sizeBytes: 1 << 20) }
        let server = try Reloadable(scratch, table("a", "a.img") + table("b", "b.img"))
        let (a, b) = (try server.client("a"), try server.client("b"))
        #expect(try b.write(0, filled(7, 4096)).isSuccess)
        let log = try server.reload(table("a", "a.img", "description = \"new\"") + table("c", "c.img"))
        for line in ["added export \"c\"", "removed export \"b\"", "changed export \"a\""] {
          #expect(log.contains(line), "\(log)")
        }
        #expect(try a.write(0, filled(1, 4096)).isSuccess)
        #expect(try server.client("c").read(0, 512).isSuccess)
        #expect(try server.client("a").export.description == "new")
        #expect(try server.goReply("b") == OptionReplyType.unknown)
        // Who has it keeps it; then its image is closed.
        try expectSame(b.read(0, 4096).data, filled(7, 4096))
        #expect(server.daemon.descriptors.contains("/b.img"))
        try b.disconnect()
        #expect(eventually(seconds: 10) { !server.daemon.descriptors.contains("/b.img") })
        try server.daemon.stop()
      }
    }

    @Test func theDefaultExportMoves() throws {
      try withScratch { scratch in
        try scratch.makeImage("a.img", sizeBytes: 1 << 20)
        try scratch.makeImage("b.img", sizeBytes: 2 << 20)
        let exports = table("a", "a.img") + table("b", "b.img")
        let server = try Reloadable(scratch, "default-export = \"a\"\n" + exports)
        #expect(try server.client("").export.sizeBytes == 1 << 20)
        try server.reload("default-export = \"b\"\n" + exports)
        #expect(try server.client("").export.sizeBytes == 2 << 20)
        try server.reload(exports)
        #expect(try server.goReply("") == OptionReplyType.unknown)
        try server.daemon.stop()
      }
    }

    @Test func aBrokenFileChangesNothing() throws {
      try withScratch { scratch in
        try scratch.makeImage("a.img", sizeBytes: 1 << 20)
        let server = try Reloadable(scratch, table("a", "a.img"))
        let client = try server.client("a")
        let log = try server.reload("sopin = 1\n" + table("b", "a.img", "raed-only = true") + "[[export]]\n")
        for part in ["holdfast.toml:3: ", "did you mean \"read-only\"?", "\"path\" is missing", "nothing was changed"] {
          #expect(log.contains(part), "\(log)")
        }
        #expect(try client.write(0, filled(1, 512)).isSuccess)
        #expect(try server.goReply("a") == OptionReplyType.ack)
        #expect(try server.goReply("b") == OptionReplyType.unknown)
        unlink(server.config)
        mkdir(server.config, 0o755)
        defer { rmdir(server.config) }
        server.daemon.child.signal(SIGHUP)
        #expect(
          eventually(seconds: 10) { server.daemon.log.count(of: "nothing was changed") == 2 }, "\(server.daemon.log)")
        #expect(try server.goReply("a") == OptionReplyType.ack)
        try server.daemon.stop()
      }
    }

    /// Not even what could have been done, and nothing is left of it.
    @Test func anImageThatDoesNotOpenChangesNothing() throws {
      try withScratch { scratch in
        try scratch.makeImage("a.img", sizeBytes: 1 << 20)
        let server = try Reloadable(scratch, table("a", "a.img"))
        let log = try server.reload(
          table("new", "new.img", "create = true\nsize = \"1MiB\"") + table("gone", "gone.img"))
        #expect(log.contains("gone.img") && log.contains("nothing was changed"), "\(log)")
        #expect(!exists(scratch.file("new.img")))
        #expect(try server.goReply("a") == OptionReplyType.ack)
        #expect(try server.goReply("new") == OptionReplyType.unknown)
        let windows = try server.reload(table("a", "a.img", "window = { offset = \"2MiB\" }"))
        #expect(
          windows.contains("behind the end of the image") && windows.contains("nothing was changed"), "\(windows)")
        #expect(try server.goReply("a") == OptionReplyType.ack)
        try server.daemon.stop()
      }
    }

    @Test func whatTakesARestartIsSaid() throws {
      try withScratch { scratch in
        try scratch.makeImage("a.img", sizeBytes: 1 << 20)
        let server = try Reloadable(scratch, table("a", "a.img"))
        let log = try server.reload("max-connections = 7\n" + table("a", "a.img"))
        #expect(log.contains("[server] max-connections has changed, which takes a restart"), "\(log)")
        try server.daemon.stop()
      }
    }

    @Test func aFileThatWasReplacedIsServedAfterwards() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage("a.img", sizeBytes: 1 << 20)
        let server = try Reloadable(scratch, table("a", "a.img"))
        let old = try server.client("a")
        let other = try scratch.makeImage("b.img", sizeBytes: 2 << 20)
        #expect(rename(other, image) == 0)
        #expect(try server.client("a").export.sizeBytes == 1 << 20)
        let log = try server.reload(table("a", "a.img"))
        #expect(log.contains("replaced export \"a\""), "\(log)")
        #expect(try server.client("a").export.sizeBytes == 2 << 20)
        #expect(try old.write(0, filled(1, 512)).isSuccess)
        try server.daemon.stop()
      }
    }

    /// Neither an empty image takes its place nor is one made: it may be back in a moment.
    @Test func anImageThatIsOutOfSightIsServedOn() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage("a.img", sizeBytes: 1 << 20)
        let export = table("a", "a.img", "create = true\nsize = \"1MiB\"")
        let server = try Reloadable(scratch, export)
        #expect(try server.client("a").write(0, filled(1, 512)).isSuccess)
        #expect(rename(image, scratch.file("away.img")) == 0)
        let log = try server.reload(export)
        #expect(log.contains("names no file any more") && log.contains("in force"), "\(log)")
        let window = try server.reload(export + "window = { offset = \"64KiB\" }\n")
        #expect(window.contains("no such file") && window.contains("nothing was changed"), "\(window)")
        #expect(!exists(image))
        #expect(try server.client("a").read(0, 512).data == filled(1, 512))
        try server.daemon.stop()
      }
    }

    @Test func dropInsAreServedAndMayComeLater() throws {
      try withScratch { scratch in
        try scratch.makeImage("a.img", sizeBytes: 1 << 20)
        let server = try Reloadable(scratch, table("a", "a.img"))
        mkdir(scratch.file("conf.d"), 0o755)
        try table("b", "../b.img", "create = true\nsize = \"1MiB\"")
          .write(toFile: scratch.file("conf.d/10-b.toml"), atomically: true, encoding: .utf8)
        try server.reload(table("a", "a.img"))
        #expect(try server.client("b").export.sizeBytes == 1 << 20)
        #expect(exists(scratch.file("b.img")))
        let check = try run(Daemon.binary, ["check-config", "--config", server.config], seconds: 10)
        #expect(check.status == .exited(0) && check.output.contains("in order, 2 exports"), "\(check.output)")
        let log = try server.reload(table("a", "a.img") + table("b", "a.img"))
        #expect(log.contains("conf.d/10-b.toml:2: export \"b\": the name is taken by the export at"), "\(log)")
        try server.daemon.stop()
      }
    }

    @Test func withoutAConfigurationThereIsNothingToRead() throws {
      try withDaemon { daemon, _, _ in
        daemon.child.signal(SIGHUP)
        #expect(
          eventually(seconds: 10) { daemon.log.contains("there is no configuration to read again") }, "\(daemon.log)")
        let reply = try daemon.client().read(0, 512)
        #expect(reply.isSuccess)
      }
    }

    /// A hundred reloads that add, change, replace and remove exports, some of them broken, while 16 clients verify what they wrote on
    /// exports that stay as they are. No error there, and nothing is left behind.
    @Test func reloadsUnderLoadDisturbNobody() throws {
      try withScratch { scratch in
        let seed = UInt64.random(in: 1 ... .max)
        print("reloadsUnderLoadDisturbNobody seed \(seed)")
        let (clients, mib) = (16, UInt64(1) << 20)
        for number in 0..<4 { try scratch.makeImage("u\(number).img", sizeBytes: 4 * mib) }
        for number in 0..<6 {
          for part in ["a", "b"] { try scratch.makeImage("c\(number)\(part).img", sizeBytes: mib) }
        }
        let untouched = (0..<4).map { table("u\($0)", "u\($0).img") }.joined()
        let server = try Reloadable(scratch, untouched)
        _ = try server.client("u0").read(0, 4096)
        try server.reload(untouched + table("c0", "c0a.img"))
        try server.reload(untouched)
        usleep(300_000)
        let descriptors = server.daemon.descriptorCount

        let isOver = Locked(false)
        let verified = Locked(0)
        let socket = server.daemon.socket
        let failures = ErrorBox()
        let ended = DispatchSemaphore(value: 0)
        Thread {
          do {
            try onThreads(clients + 3) { index in
              if index < clients {
                let region = UInt64(index / 4) * mib
                let blocks = try verify(socket, "u\(index % 4)", region: region, seed &+ UInt64(index)) {
                  isOver.withLock { $0 }
                }
                verified.withLock { $0 += blocks }
              } else {
                try comeAndGo(socket, seed &+ UInt64(index)) { isOver.withLock { $0 } }
              }
            }
          } catch { failures.set(error) }
          ended.signal()
        }.start()

        var random = Random(seed: seed)
        // Against a hang only: how long a reload takes is up to the disk, which 16 clients with FUA keep busy.
        let deadline = monotonicSeconds() + 240
        var reloads = 0
        var refused = 0
        while reloads < 100, failures.first == nil, monotonicSeconds() < deadline {
          let log = try server.reload(untouched + churn(&random))
          if log.contains("nothing was changed") { refused += 1 }
          reloads += 1
        }
        // The last one takes everything away again.
        try server.reload(untouched)
        isOver.withLock { $0 = true }
        ended.wait()
        #expect(failures.first == nil, "\(failures.first.map { "\($0)" } ?? "")\n\(server.daemon.log.suffix(4000))")
        #expect(reloads == 100)
        #expect(refused > 0 && refused < 50)
        #expect(verified.withLock { $0 } > 1000)
        print("\(reloads) reloads, \(refused) of them refused; \(verified.withLock { $0 }) reads verified")
        // Images, connections and threads of what has gone.
        let isClean = eventually(seconds: 20) {
          server.daemon.descriptorCount <= descriptors && !server.daemon.descriptors.contains("/c")
        }
        #expect(
          isClean,
          "\(descriptors) descriptors before, \(server.daemon.descriptorCount) now:\n\(server.daemon.descriptors)")
        #expect(eventually(seconds: 30) { server.daemon.threadCount <= 12 }, "\(server.daemon.threadCount) threads")
        #expect(!server.daemon.log.contains("the last sync"), "\(server.daemon.log.suffix(4000))")
        try server.daemon.stop()
      }
    }
  }
}

/// Six exports that are there or not, in all variations that a reload tells apart; now and then a mistake.
private func churn(_ random: inout Random) -> String {
  if random.next() % 10 == 0 {
    return ["[[export]]\nname = 5\n", table("x", "missing.img"), "[[exp"][Int(random.next() % 3)]
  }
  var text = ""
  for number in 0..<6 where random.next() % 3 != 0 {
    var more = ""
    if random.next() % 2 == 0 { more += "description = \"\(random.next() % 3)\"\n" }
    if random.next() % 3 == 0 { more += "limits = { connections = \(1 + random.next() % 4), in-flight = 8 }\n" }
    if random.next() % 4 == 0 { more += "window = { offset = \"64KiB\", size = \"512KiB\" }\n" }
    if random.next() % 4 == 0 { more += "block-size = { minimum = 512 }\n" }
    if random.next() % 4 == 0 { more += "durability = \"always\"\n" }
    text += table("c\(number)", "c\(number)\(random.next() % 2 == 0 ? "a" : "b").img", more)
  }
  return text
}

/// Writes and reads 4 KiB blocks of a region of its own and compares them with what it knows of them, until `isOver`.
/// - Returns: how many were read.
private func verify(
  _ socket: String, _ export: String, region: UInt64, _ seed: UInt64, _ isOver: () -> Bool
) throws -> Int {
  var random = Random(seed: seed)
  let client = try RawClient.connect(unix: socket, export: export, timeoutSeconds: 30)
  var known: [UInt64: UInt8] = [:]
  var reads = 0
  while !isOver() {
    let block = random.next() % 256
    let value = UInt8(truncatingIfNeeded: random.next())
    let flags = random.next() % 32 == 0 ? CmdFlag.fua : 0
    guard try client.write(region + block * 4096, filled(value, 4096), flags: flags).isSuccess else {
      throw HarnessError("a WRITE of \(export) failed")
    }
    known[block] = value
    let other = random.next() % 256
    let reply = try client.read(region + other * 4096, 4096)
    guard reply.isSuccess, same(reply.data, filled(known[other] ?? 0, 4096)) else {
      throw HarnessError("block \(other) of \(export) is not what was written")
    }
    reads += 1
  }
  try client.disconnect()
  return reads
}

/// A client of exports that come and go: who got one keeps it as it was told, until it disconnects.
private func comeAndGo(_ socket: String, _ seed: UInt64, _ isOver: () -> Bool) throws {
  var random = Random(seed: seed)
  while !isOver() {
    let client = RawClient(try RawSocket(unix: socket, timeoutSeconds: 30))
    try client.greet()
    let reply = try client.option(Option.go, infoOptionData("c\(random.next() % 6)"))
    guard let last = reply.last, !last.isError else {
      guard [OptionReplyType.unknown, OptionReplyType.policy].contains(reply.last?.type) else {
        throw HarnessError("GO was answered with \(reply)")
      }
      usleep(1000)
      continue
    }
    let size = try client.exportInfo(reply).sizeBytes
    for _ in 0..<Int(random.next() % 20) {
      guard try client.write(size - 4096, filled(9, 4096)).isSuccess else { throw HarnessError("a WRITE failed") }
      usleep(UInt32(random.next() % 4000))
    }
    try client.disconnect()
  }
}
