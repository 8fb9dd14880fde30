// The daemon's metrics and logs as their readers see them: promtool, a program that reads JSON, journald.

import DaemonHarness
import Foundation
import NBDClient
import Testing

@Suite struct MetricsTests {
  /// The answer to GET, without its head.
  private func get(_ url: String, _ path: String) throws -> String {
    try run("/usr/bin/curl", ["-sS", "--fail", "--max-time", "10", url + path], seconds: 15).orThrow().output
  }

  /// A load that is known to the last request, seen through every part: the counters are exactly its own.
  @Test func metricsAreExactAfterAKnownLoad() throws {
    try withDaemon(["--metrics", "127.0.0.1:0"]) { daemon, _, scratch in
      let url = try daemon.dashboard()
      let client = try daemon.client()
      let block = [UInt8](repeating: 7, count: 65536)
      for index in 0..<40 as Range<UInt64> { #expect(try client.write(index * 65536, block).isSuccess) }
      for index in 0..<30 as Range<UInt64> { #expect(try client.read(index * 4096, 4096).isSuccess) }
      for _ in 0..<3 { #expect(try client.call(Cmd.flush).isSuccess) }
      #expect(try client.call(Cmd.trim, offset: 0, length: 1 << 20).isSuccess)
      #expect(try client.call(Cmd.writeZeroes, flags: CmdFlag.noHole, offset: 1 << 20, length: 1 << 20).isSuccess)
      for _ in 0..<2 { #expect(try client.call(Cmd.blockStatus, offset: 0, length: 4096).isSuccess) }
      #expect(try client.call(Cmd.cache, offset: 0, length: 4096).isSuccess)
      for _ in 0..<4 { #expect(try client.read(64 << 20, 512).error == NBDErrno.invalid) }

      let text = try get(url, "metrics")
      let name = "disk.img"
      for (op, count) in [
        ("read", 34), ("write", 40), ("flush", 3), ("trim", 1), ("write_zeroes", 1), ("block_status", 2), ("cache", 1),
      ] {
        #expect(text.contains("\nholdfast_requests_total{export=\"\(name)\",op=\"\(op)\"} \(count)\n"), "\(op)")
      }
      for line in [
        "holdfast_request_errors_total{export=\"\(name)\",op=\"read\",error=\"EINVAL\"} 4",
        "holdfast_rejected_requests_total{export=\"\(name)\",reason=\"beyond_end\"} 4",
        "holdfast_read_bytes_total{export=\"\(name)\"} \(30 * 4096)",
        "holdfast_written_bytes_total{export=\"\(name)\"} \(40 * 65536)",
        "holdfast_trimmed_bytes_total \(1 << 20)",
        "holdfast_connections{export=\"\(name)\"} 1",
        "holdfast_connections_total{export=\"\(name)\",tls=\"false\"} 1",
        "holdfast_flush_duration_seconds_count 1",
        "holdfast_flush_errors_total 0",
      ] {
        #expect(text.contains("\n\(line)\n"), "\(line)")
      }
      let zeroed = text.matches(of: /holdfast_zeroed_bytes_total\{method="\w+"\} (\d+)/).compactMap { Int($0.1) }
      #expect(zeroed.reduce(0, +) == 1 << 20)

      try Data(text.utf8).write(to: URL(filePath: scratch.file("metrics.txt")))
      let tool = try #require(find("promtool"), "promtool is in the package prometheus")
      try shell("\(tool) check metrics < \(scratch.file("metrics.txt"))", seconds: 20).orThrow()
    }
  }

  @Test func otherMachinesAreNotServedUnasked() throws {
    try withScratch { scratch in
      let image = try scratch.makeImage(sizeBytes: 1 << 20)
      let refused = try Daemon.launch(
        in: scratch, ["--metrics", "0.0.0.0:0", image], socket: scratch.file("nbd.sock"))
      #expect(refused.child.wait(seconds: 10) == .exited(64))
      #expect(refused.log.contains("--metrics: 0.0.0.0:0 can be reached from other machines"))
    }
  }

  @Test func aUnixSocketIsServedAndRemoved() throws {
    try withScratch { scratch in
      let image = try scratch.makeImage(sizeBytes: 1 << 20)
      let socket = scratch.file("metrics.sock")
      let daemon = try Daemon.start(in: scratch, ["--metrics", socket, image])
      let answer = try run(
        "/usr/bin/curl", ["-sS", "--unix-socket", socket, "http://localhost/metrics"], seconds: 15
      ).orThrow()
      #expect(answer.output.contains("holdfast_exports 1\n"))
      try daemon.stop()
      #expect(!exists(socket))
    }
  }

  /// Every line of the log is an object, and the last words of a connection say what it did.
  @Test func theLogIsJSON() throws {
    try withScratch { scratch in
      let image = try scratch.makeImage(sizeBytes: 1 << 20)
      let daemon = try Daemon.start(in: scratch, ["--log-format", "json", image])
      let client = try daemon.client()
      #expect(try client.write(4096, [UInt8](repeating: 1, count: 512)).isSuccess)
      try client.disconnect()
      #expect(eventually(seconds: 5) { daemon.log.contains("closed after") })
      try daemon.stop()
      let lines = daemon.log.split(separator: "\n").filter { $0.hasPrefix("{") }
      let objects = try lines.map { try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any] ?? [:] }
      #expect(objects.allSatisfy { $0["time"] is String && $0["level"] is String && $0["message"] is String })
      let summary = try #require(
        objects.first {
          ($0["message"] as? String)?.hasPrefix("closed after") == true && $0["write_bytes"] as? Int == 512
        })
      #expect(summary["export"] as? String == "disk.img" && summary["connection"] is Int)
      #expect(summary["write_requests"] as? Int == 1 && summary["errors"] as? Int == 0)
      #expect(!daemon.log.split(separator: "\n").contains { $0.contains("info: ") })
    }
  }

  @Test func theJournalFormatCanBeAskedFor() throws {
    try withScratch { scratch in
      let image = try scratch.makeImage(sizeBytes: 1 << 20)
      let daemon = try Daemon.start(in: scratch, ["--log-format", "journal", image])
      let client = try daemon.client()
      #expect(try client.read(0, 512).isSuccess)
      #expect(eventually(seconds: 5) { daemon.log.contains("\n<6>connected to export \"disk.img\" connection=") })
      try daemon.stop()
    }
  }

  /// A disk that takes its time, on purpose: the log says so while it does, and again when it has ended.
  @Test func aSlowDiskIsToldOf() throws {
    try withScratch { scratch in
      let image = try scratch.makeImage(sizeBytes: 1 << 20)
      let file = scratch.file("holdfast.toml")
      let toml = """
        [server]
        listen = ["nbd+unix:///?socket=\(scratch.file("nbd.sock"))"]
        [log]
        slow-operation = "300ms"
        [[export]]
        name = "slow"
        path = "\(image)"
        faults = ["write:delay=2500ms,times=1"]
        """
      try Data(toml.utf8).write(to: URL(filePath: file))
      let child = try Child(
        Daemon.binary, ["serve", "--config", file], outputPath: scratch.file("log"),
        environment: ["RUNTIME_DIRECTORY=\(scratch.path)"])
      scratch.atEnd { child.end() }
      #expect(eventually(seconds: 10) { (try? RawSocket(unix: scratch.file("nbd.sock"))) != nil })
      let client = try RawClient.connect(unix: scratch.file("nbd.sock"), export: "slow")
      #expect(try client.write(8192, [UInt8](repeating: 1, count: 4096)).isSuccess)
      let operation = "NBD_CMD_WRITE 8192+4096 of export \"slow\""
      #expect(eventually(seconds: 5) { child.output.contains("\(operation) ended after 2.") })
      #expect(child.output.contains("\(operation) has been in flight for "))
    }
  }
}
