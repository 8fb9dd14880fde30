// The pictures of docs/, made only when HOLDFAST_SCREENSHOTS names a folder (`make screenshots`): a server with a load that is fit to
// be looked at.

import DaemonHarness
import Foundation
import Glibc
import Locking
import NBDClient
import Testing

private let folder = getenv("HOLDFAST_SCREENSHOTS").map { String(cString: $0) }

@Suite(
  .enabled(if: folder != nil && Browser.program != nil, "HOLDFAST_SCREENSHOTS is not set, or no chromium is there"))
struct ScreenshotTests {
  @Test func picturesOfTheDashboardAreTaken() throws {
    try withScratch { scratch in
      let load = try Load(in: scratch)
      defer { load.stop() }
      let browser = try Browser(in: scratch)
      for (name, width, height, isDark) in [
        ("dashboard", 1200, 1330, false), ("dashboard-dark", 1200, 1330, true), ("dashboard-narrow", 400, 1500, false),
      ] {
        try browser.show(width: width, height: height, isDark: isDark)
        try browser.open(load.dashboard)
        #expect(
          try eventually(seconds: 40) {
            (Int(try browser.evaluate("document.body?.dataset.updates") as? String ?? "") ?? 0) >= 20
          })
        try browser.takePicture("\(folder!)/\(name).png")
      }
      #expect(browser.complaints.isEmpty, "\(browser.complaints)")
    }
  }

  @Test func aPictureOfTheStatusIsTaken() throws {
    try withScratch { scratch in
      let admin = scratch.file("admin.sock")
      let load = try Load(in: scratch, ["--admin", admin])
      defer { load.stop() }
      let browser = try Browser(in: scratch)
      let terminal = TerminalPicture(columns: 118, rows: 34)
      let frame = try terminal.lastFrame(
        of: "\(Daemon.binary) status --watch --admin \(admin)", seconds: 8, in: scratch)
      try Data(terminal.page(of: frame).utf8).write(to: URL(filePath: scratch.file("status.html")))
      try browser.show(width: 1040, height: 680)
      try browser.open("file://\(scratch.file("status.html"))")
      #expect(
        try eventually(seconds: 10) { try browser.evaluate("document.querySelector('pre') !== null") as? Bool == true })
      try browser.takePicture("\(folder!)/status-watch.png")
    }
  }
}

private final class Switch: Sendable {
  let isOn = Locked(true)
}

/// A daemon with three exports and clients that use them.
final class Load {
  let dashboard: String
  let daemon: Daemon
  private let switchedOn = Switch()
  private let ended = DispatchSemaphore(value: 0)
  private var threads = 0

  init(in scratch: Scratch, _ arguments: [String] = []) throws {
    var exports: [String] = []
    for (name, size) in [("build", 4 << 30), ("home", 16 << 30), ("mail", 1 << 30)] as [(String, UInt64)] {
      exports += ["--export", "\(name)=\(try scratch.makeImage(name, sizeBytes: size))"]
    }
    daemon = try Daemon.start(in: scratch, ["--metrics", "127.0.0.1:0"] + arguments + exports)
    dashboard = try daemon.dashboard()
    try begin("build", seed: 1, area: 0..<(2 << 30), length: 64 << 10, writes: 0.6, pauseMicroseconds: 300)
    try begin("build", seed: 2, area: 0..<(2 << 30), length: 4 << 10, writes: 0.3, pauseMicroseconds: 100)
    try begin("home", seed: 3, area: (3 << 30)..<(6 << 30), length: 16 << 10, writes: 0.2, pauseMicroseconds: 200)
    try begin("mail", seed: 4, area: 0..<(600 << 20), length: 4 << 10, writes: 0.5, pauseMicroseconds: 2000)
  }

  /// A client on a thread of its own: reads, writes, now and then a TRIM and a FLUSH.
  private func begin(
    _ export: String, seed: UInt64, area: Range<UInt64>, length: UInt32, writes: Double, pauseMicroseconds: UInt32
  ) throws {
    let client = try daemon.client(export)
    threads += 1
    Thread { [switchedOn, ended] in
      var random = SystemRandomNumberGenerator()
      let data = [UInt8](repeating: UInt8(truncatingIfNeeded: seed), count: Int(length))
      var count = 0
      while switchedOn.isOn.withLock({ $0 }) {
        count += 1
        // Some places are hotter than others, so that the map has something to show.
        let position = pow(Double.random(in: 0..<1, using: &random), 2.5)
        let blocks = (area.upperBound - area.lowerBound) / UInt64(length)
        let offset = area.lowerBound + UInt64(position * Double(blocks)) * UInt64(length)
        do {
          if count % 400 == 0 {
            _ = try client.call(Cmd.flush)
          } else if count % 150 == 0 {
            _ = try client.call(Cmd.trim, offset: offset, length: min(1 << 20, UInt32(area.upperBound - offset)))
          } else if Double.random(in: 0..<1, using: &random) < writes {
            _ = try client.write(offset, data)
          } else {
            _ = try client.read(offset, length)
          }
        } catch { break }
        usleep(pauseMicroseconds)
      }
      ended.signal()
    }.start()
  }

  func stop() {
    switchedOn.isOn.withLock { $0 = false }
    for _ in 0..<threads { ended.wait() }
    try? daemon.stop()
  }
}
