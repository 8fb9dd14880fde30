// holdfast-torture as people start it, against the debug daemon: clean with its guards, a violation with a witness without
// one, and the cases in which nothing can be judged.

import DaemonHarness
import Foundation
import Testing

private let products = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().appending(path: ".build/debug").path
private let tool = products + "/holdfast-torture"
private let daemon = products + "/holdfast"

/// Runs the tool against a daemon of its own with `options`.
private func torture(
  _ arguments: [String], daemonOptions: String = "", size: String = "64M", seconds: Double = 60
) throws -> ToolResult {
  try withScratch { scratch in
    let socket = scratch.file("nbd.sock")
    // A line of shell, as --server-command has it.
    let command =
      "cd / && \(daemon) serve --create --size \(size) --unix \(socket) --log-level error \(daemonOptions) "
      + scratch.file("disk.img") + " >/dev/null"
    let uri = "nbd+unix:///?socket=\(socket)"
    let all = arguments.map { $0 == "URI" ? uri : $0 } + ["--server-command", command]
    return try DaemonHarness.run(tool, all, seconds: seconds)
  }
}

@Suite(.serialized) struct TortureCommandTests {
  @Test func holdfastIsClean() throws {
    let result = try torture(["URI", "--seconds", "2", "--connections", "8", "--strict", "--seed", "5"])
    #expect(result.status == .exited(0), "\(result.output)")
    #expect(result.output.contains("verdict: clean"))
    #expect(result.output.contains("seed 5"))
  }

  @Test func acknowledgedChangesSurviveKills() throws {
    let result = try torture(["URI", "--operations", "12000", "--kills", "3", "--strict"])
    #expect(result.status == .exited(0), "\(result.output)")
    #expect(result.output.contains("kills: 3"))
  }

  /// More kills than requests allow: as many as there is room for, and a word about the others.
  @Test func shortRunWithManyKillsEnds() throws {
    let result = try torture(["URI", "--connections", "1", "--operations", "12", "--kills", "20"])
    #expect(result.status == .exited(0) || result.status == .exited(2), "\(result.output)")
    #expect(result.output.contains("of 20 kills happened"), "\(result.output)")
  }

  @Test func withoutTheRangeLockAWitnessIsFound() throws {
    let result = try torture(
      ["URI", "--operations", "30000", "--region", "2M", "--length", "1M", "--strict"],
      daemonOptions: "--without-guard rangeLock")
    #expect(result.status == .exited(1), "\(result.output)")
    #expect(result.output.contains("verdict: violation"))
    #expect(result.output.contains("sent ms") && result.output.contains("READ"), "no witness: \(result.output)")
  }

  @Test func jsonHasItsForm() throws {
    let result = try torture(
      ["URI", "--operations", "30000", "--region", "2M", "--length", "1M", "--strict", "--json", "--quiet"],
      daemonOptions: "--without-guard rangeLock")
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any], "\(result.output)")
    #expect(object["schema"] as? Int == 1)
    #expect(object["verdict"] as? String == "violation")
    #expect((object["requests"] as? Int ?? 0) > 0)
    let checks = try #require(object["checks"] as? [[String: Any]])
    #expect(checks.contains { $0["name"] as? String == "atomicity" && $0["promised"] as? Bool == false })
    let finding = try #require((object["findings"] as? [[String: Any]])?.first)
    let line = try #require((finding["witness"] as? [[String: Any]])?.first)
    for key in ["sent_ms", "answered_ms", "connection", "command", "offset", "length", "result"] {
      #expect(line[key] != nil, "\(key) is missing")
    }
  }

  /// Each story once with its guard and once without; `make torture-stories` does it a hundred times.
  @Test(arguments: [
    ("moving-offset", "ownProbeDescriptor"), ("short-write", "resumeAfterShortWrite"),
    ("stale-layout", "layoutUnderLock"), ("punched-reply", "privateCopyOfReads"), ("overtaken-write", "rangeLock"),
    ("dead-connection", "deadKeepLocks"), ("failed-sync", "syncErrorLatch"),
  ])
  func storyIsToldOnlyWithoutItsGuard(scenario: String, without guardName: String) throws {
    let with = try torture(["scenario", scenario, "URI", "--strict"], size: "256M")
    #expect(with.status == .exited(0), "\(with.output)")
    let without = try torture(
      ["scenario", scenario, "URI", "--strict", "--runs", "10"], daemonOptions: "--without-guard \(guardName)",
      size: "256M")
    #expect(without.status == .exited(1), "\(without.output)")
  }

  @Test func whatCannotBeJudgedSaysSo() throws {
    let nobody = try DaemonHarness.run(tool, ["nbd+unix:///?socket=/tmp/holdfast-torture-nobody"], seconds: 20)
    #expect(nobody.status == .exited(2), "\(nobody.output)")
    let tooSmall = try torture(["URI", "--region", "64M", "--seconds", "1"], size: "1M")
    #expect(tooSmall.status == .exited(2), "\(tooSmall.output)")
    #expect(tooSmall.output.contains("could not judge: --region is"))
    let asJSON = try DaemonHarness.run(
      tool, ["nbd+unix:///?socket=/tmp/holdfast-torture-nobody", "--json"], seconds: 20)
    #expect(asJSON.status == .exited(2))
    #expect(asJSON.output.contains("\"verdict\":\"not judged\""), "\(asJSON.output)")
    let needsMore = try torture(["scenario", "long-zeroes", "URI"], size: "16M")
    #expect(needsMore.status == .exited(2), "\(needsMore.output)")
  }

  @Test func readOnlyExportCannotBeJudged() throws {
    try withScratch { scratch in
      let image = try scratch.makeImage(sizeBytes: 8 << 20)
      let server = try Daemon.start(in: scratch, ["--read-only", image])
      let result = try DaemonHarness.run(tool, [server.uri(), "--seconds", "1"], seconds: 20)
      #expect(result.status == .exited(2), "\(result.output)")
      #expect(result.output.contains("read-only"))
      try server.stop()
    }
  }

  @Test(arguments: [
    ["--mix", "write"], ["--mix", "read,dance,write"], ["--connections", "0"], ["--block", "100"],
    ["--region", "lots"], ["--kills", "2"], ["--connections", "256", "--depth", "256"], ["--seconds", "0"],
    ["--operations", "0"],
  ])
  func wrongArgumentsAreUsageErrors(arguments: [String]) throws {
    let result = try DaemonHarness.run(tool, ["nbd://127.0.0.1:1"] + arguments, seconds: 20)
    #expect(result.status == .exited(64), "\(result.output)")
  }

  @Test func unknownScenarioNamesTheKnownOnes() throws {
    let result = try DaemonHarness.run(tool, ["scenario", "dance", "nbd://127.0.0.1:1"], seconds: 20)
    #expect(result.status == .exited(64))
    #expect(result.output.contains("overtaken-write"))
    let list = try DaemonHarness.run(tool, ["scenarios"], seconds: 20)
    #expect(list.status == .exited(0))
    #expect(list.output.contains("long-zeroes"))
  }
}
