// The dashboard in a real browser: it updates while one looks, shows what happens, and has nothing to complain about. With
// HOLDFAST_SCREENSHOTS, a folder, it leaves pictures there (`make screenshots`).

import DaemonHarness
import Foundation
import NBDClient
import Testing

@Suite(.enabled(if: Browser.program != nil, "no chromium is installed"))
struct DashboardTests {
  /// A daemon with a dashboard.
  private func withDashboard<T>(_ body: (Daemon, _ url: String, Scratch) throws -> T) throws -> T {
    try withScratch { scratch in
      let images = try ["root.img", "home.img"].map { try scratch.makeImage($0, sizeBytes: 256 << 20) }
      let daemon = try Daemon.start(in: scratch, ["--metrics", "127.0.0.1:0"] + images)
      let result = try body(daemon, try daemon.dashboard(), scratch)
      try daemon.stop()
      return result
    }
  }

  @Test func thePageUpdatesAndDoesNotComplain() throws {
    try withDashboard { daemon, url, scratch in
      let browser = try Browser(in: scratch)
      try browser.show(width: 1200, height: 900)
      try browser.open(url)
      func updates() throws -> Int {
        Int(try browser.evaluate("document.body?.dataset.updates || '0'") as? String ?? "") ?? 0
      }
      func text() throws -> String { try browser.evaluate("document.body.innerText") as? String ?? "" }
      #expect(try eventually(seconds: 20) { try updates() >= 1 })
      #expect(try text().contains("nobody is connected"))
      let client = try daemon.client("root.img")
      #expect(try client.write(0, [UInt8](repeating: 1, count: 1 << 20)).isSuccess)
      let before = try updates()
      #expect(try eventually(seconds: 20) { try updates() >= before + 3 })
      let seen = try text()
      #expect(seen.contains("root.img") && seen.contains("home.img"))
      #expect(!seen.contains("nobody is connected"))
      // The map shows what was written.
      let fullCells = "document.querySelectorAll('[data-export=\"root.img\"] .map path.map-full').length"
      #expect(try eventually(seconds: 20) { try browser.evaluate(fullCells) as? Int == 1 })
      #expect(browser.complaints.isEmpty, "\(browser.complaints)")
    }
  }

  /// On a telephone nothing is wider than the page.
  @Test func thePageIsReadableWhenNarrow() throws {
    try withDashboard { daemon, url, scratch in
      let client = try daemon.client("root.img")
      #expect(try client.read(0, 4096).isSuccess)
      let browser = try Browser(in: scratch)
      try browser.show(width: 400, height: 800)
      try browser.open(url)
      #expect(try eventually(seconds: 20) { try browser.evaluate("document.body?.dataset.updates") as? String == "2" })
      #expect(try browser.evaluate("document.documentElement.scrollWidth") as? Int == 400)
      #expect(browser.complaints.isEmpty, "\(browser.complaints)")
    }
  }

  /// The names of clients and exports stay text.
  @Test func namesAreNotMarkup() throws {
    try withScratch { scratch in
      let image = try scratch.makeImage(sizeBytes: 1 << 20)
      let name = "<b>bold</b>&amp;"
      let daemon = try Daemon.start(in: scratch, ["--metrics", "127.0.0.1:0", "--export", "\(name)=\(image)"])
      let browser = try Browser(in: scratch)
      try browser.open(try daemon.dashboard())
      #expect(try eventually(seconds: 20) { try browser.evaluate("document.body?.dataset.updates") as? String == "2" })
      #expect(try browser.evaluate("document.body.innerText.includes(\"\(name)\")") as? Bool == true)
      #expect(try browser.evaluate("document.querySelector('h3 b') === null") as? Bool == true)
      #expect(browser.complaints.isEmpty, "\(browser.complaints)")
      try daemon.stop()
    }
  }
}

extension Daemon {
  /// The address of the dashboard, from what the daemon prints.
  func dashboard() throws -> String {
    var url = ""
    _ = eventually(seconds: 10) {
      url = log.firstMatch(of: /dashboard: (http:\/\/127.0.0.1:\d+\/)/).map { String($0.1) } ?? ""
      return !url.isEmpty
    }
    guard !url.isEmpty else { throw HarnessError("no dashboard in the log:\n\(log)") }
    return url
  }
}
