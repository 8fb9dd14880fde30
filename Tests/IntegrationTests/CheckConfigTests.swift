// `holdfast check-config`, as an operator runs it.

import DaemonHarness
import Foundation
import Glibc
import NBDClient
import Testing

extension Integration {
  @Suite struct CheckConfig {
    private func check(_ text: String, in scratch: Scratch, _ flags: String...) throws -> ToolResult {
      let path = scratch.file("holdfast.toml")
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      return try run(Daemon.binary, ["check-config"] + flags + ["--config", path], seconds: 10)
    }

    @Test func whatIsInOrderIsToldAndNothingIsMade() throws {
      try withScratch { scratch in
        let text = """
          [server]
          listen = ["nbd+unix:///?socket=\(scratch.file("nbd.sock"))"]
          [[export]]
          name = "new"
          path = "new.img"
          create = true
          size = "1GiB"
          """
        let result = try check(text, in: scratch)
        #expect(result.status == .exited(0), "\(result.output)")
        #expect(result.output.contains("in order, 1 export"), "\(result.output)")
        #expect(result.output.contains("made with 1.0 GiB if missing"), "\(result.output)")
        #expect(!exists(scratch.file("new.img")) && !exists(scratch.file("nbd.sock")))

        let json = try check(text, in: scratch, "--json")
        let object = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        #expect(object["schema"] as? Int == 1)
        #expect((object["exports"] as? [[String: Any]])?.first?["name"] as? String == "new")
      }
    }

    @Test func everyMistakeIsTold() throws {
      try withScratch { scratch in
        let result = try check(
          "[server]\nsocket-mode = \"9\"\n[[export]]\nname = \"a\"\nraed-only = true\n", in: scratch)
        #expect(result.status == .exited(78))
        for part in [":2: ", ":5: ", "did you mean \"read-only\"?"] {
          #expect(result.output.contains(part), "\(result.output)")
        }
      }
    }

    @Test func aMissingImageIsTold() throws {
      try withScratch { scratch in
        let result = try check("[[export]]\nname = \"a\"\npath = \"a.img\"\n", in: scratch)
        #expect(result.status == .exited(66))
        #expect(result.output.contains("create = true"), "\(result.output)")
      }
    }
  }
}
