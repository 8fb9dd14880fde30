// What holdfast-torture makes of what a server offers, and of a run that does not come to its end.

import DaemonHarness
import Foundation
import Testing
import Torture

@testable import holdfast_torture

private func advertised(payloadBytesMax: Int = 32 << 20) -> Advertised {
  Advertised(
    sizeBytes: 64 << 20, blockBytesMin: 1, payloadBytesMax: payloadBytesMax, isReadOnly: false, flush: true, fua: true,
    trim: true, zero: true, status: true, multiConnection: true)
}

private func request(_ verb: Verb, errno: Int32 = 0, fua: Bool = false) -> Request {
  var request = Request(id: 1, verb: verb, blocks: 0..<1, connection: 0)
  (request.completed, request.errno, request.fua) = (2, errno, fua)
  return request
}

@Suite struct FittingTests {
  @Test func lengthsAreWholeBlocksOfWhatTheServerTakes() throws {
    var settings = Settings(uri: "", seed: 1)
    settings.shape.lengthBytesMax = 4 << 20
    settings.shape.longBytesMax = 4 << 20
    _ = try settings.fit(to: advertised(payloadBytesMax: 1_000_000))
    #expect(settings.shape.lengthBytesMin == 4096)
    #expect(settings.shape.lengthBytesMax == 999_424)
    #expect(settings.shape.longBytesMax == 999_424)
  }

  @Test func aServerThatTakesLessThanABlockIsRefused() {
    var settings = Settings(uri: "", seed: 1)
    settings.shape.blockBytes = 65_536
    #expect(throws: TortureFailure.self) { _ = try settings.fit(to: advertised(payloadBytesMax: 4096)) }
  }
}

@Suite struct VerdictTests {
  private func verdict(_ requests: [Request], kills: Int = 0) -> Verdict {
    var tally = Tally()
    tally.count(requests)
    tally.kills = kills
    return Verdict(settings: Settings(uri: "", seed: 1), advertised: advertised(), notes: [], tally: tally)
  }

  @Test func nothingIsCleanThatWasNotLookedAt() {
    #expect(verdict([request(.read), request(.write)]).word == .clean)
    #expect(verdict([]).word == .notJudged)
    #expect(verdict([request(.write), request(.write)]).word == .notJudged)
    #expect(verdict([request(.read), request(.read), request(.read), request(.write, errno: 5)]).word == .notJudged)
    #expect(
      verdict([request(.read), request(.write), request(.trim, errno: 5), request(.trim, errno: 5)]).word == .notJudged)
  }

  @Test func aCheckIsInTheVerdictWhenItsVerbSucceeded() {
    let usual: [Torture.Category] = [.linearizability, .torn, .atomicity]
    let failed = [
      request(.status, errno: 5), request(.trim, errno: 5), request(.read), request(.write), request(.read),
    ]
    #expect(verdict(failed).categories == usual)
    #expect(Set(verdict(failed + [request(.status), request(.trim)]).categories) == Set(usual + [.status, .trimmed]))
    #expect(Set(verdict(failed, kills: 1).categories) == Set(usual + [.lost]), "nothing was synced")
    #expect(Set(verdict(failed + [request(.flush)], kills: 1).categories) == Set(usual + [.lost, .durability]))
  }

  @Test func whatWasFoundBeforeAFailureCounts() throws {
    var verdict = verdict([request(.read), request(.write)])
    verdict.failure = "connection 3 died"
    #expect(verdict.word == .notJudged)
    #expect(verdict.text.contains("verdict: could not judge: connection 3 died"))
    verdict.isViolated = true
    #expect(verdict.word.exitCode == 1)
    #expect(verdict.text.contains("verdict: violation; the run ended early: connection 3 died"))
    let data = Data(verdict.json.text.utf8)
    let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(object["verdict"] as? String == "violation")
    #expect(object["reason"] as? String == "connection 3 died")
    #expect(object["interrupted"] as? Bool == false)
  }
}

/// Lets everybody in and says nothing.
private final class SilentServer {
  private let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
  let path: String

  init(_ path: String) throws {
    self.path = path
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard status == 0, listen(descriptor, 8) == 0 else { throw HarnessError("cannot listen at \(path)") }
  }

  deinit { close(descriptor) }

  var uri: String { "nbd+unix:///?socket=\(path)" }
}

@Suite struct SilenceTests {
  @Test func aServerThatDoesNotGreetIsGivenUp() throws {
    try withScratch { scratch in
      let server = try SilentServer(scratch.file("silent.sock"))
      #expect(throws: TortureFailure.self) { _ = try NBDHandle(server.uri, seconds: 0.3) }
    }
  }

  @Test func theSecondSignalEndsTheProcess() throws {
    try withScratch { scratch in
      let server = try SilentServer(scratch.file("silent.sock"))
      let child = try Child(toolPath, [server.uri, "--seconds", "1"], outputPath: scratch.file("output"))
      defer { child.end() }
      usleep(300_000)
      child.signal(SIGINT)
      usleep(200_000)
      #expect(child.status() == nil, "the first one waits for what was begun")
      child.signal(SIGTERM)
      #expect(child.wait(seconds: 5) == .exited(130), "\(child.output)")
    }
  }
}

private let toolPath = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().appending(path: ".build/debug/holdfast-torture").path

/// One client at a time, and no CAN_MULTI_CONN.
@Suite(.serialized, .enabled(if: find("nbdkit") != nil, "nbdkit is not installed"))
struct SingleConnectionTests {
  private func torture(_ arguments: [String]) throws -> ToolResult {
    try withScratch { scratch in
      let socket = scratch.file("nbd.sock")
      let command =
        "nbdkit -f -U \(socket) --filter=multi-conn --filter=limit memory 8M multi-conn-mode=disable limit=1"
      return try DaemonHarness.run(
        toolPath, arguments.map { $0 == "URI" ? "nbd+unix:///?socket=\(socket)" : $0 } + ["--server-command", command],
        seconds: 60)
    }
  }

  @Test func itIsJudgedOverItsOnlyConnection() throws {
    let result = try torture(["URI", "--operations", "3000"])
    #expect(result.status == .exited(0), "\(result.output)")
    #expect(result.output.contains("one is used"))
  }

  @Test func whatNeedsTwoConnectionsCannotBeJudged() throws {
    let result = try torture(["scenario", "punched-reply", "URI"])
    #expect(result.status == .exited(2), "\(result.output)")
    #expect(result.output.contains("CAN_MULTI_CONN"))
  }
}
