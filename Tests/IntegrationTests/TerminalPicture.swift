// What a command draws on a terminal, as a page that a browser can take a picture of. Knows the few sequences that `holdfast status
// --watch` uses: home, colours, and the end of a line.

import DaemonHarness
import Foundation

struct TerminalPicture {
  let columns: Int
  let rows: Int

  /// Lets `command` draw for `seconds` on a terminal of its own, and keeps its last complete frame.
  func lastFrame(of command: String, seconds: Int, in scratch: Scratch) throws -> String {
    let typescript = scratch.file("typescript")
    let inner = "stty rows \(rows) cols \(columns); exec timeout \(seconds) \(command)"
    _ = try run(
      "/usr/bin/env", ["TERM=xterm-256color", "script", "-qfc", inner, typescript], seconds: Double(seconds) + 10)
    let frames = text(of: typescript).components(separatedBy: "\u{1b}[H")
    // The last one may be cut off.
    guard frames.count >= 3 else { throw HarnessError("nothing was drawn:\n\(text(of: typescript))") }
    return frames[frames.count - 2]
  }

  /// A page of the size of the terminal.
  func page(of frame: String) -> String {
    let lines = frame.components(separatedBy: "\r\n").map(html)
    return """
      <!doctype html><meta charset="utf-8"><style>
      body { margin: 0; padding: 14px 18px; background: #14181c; color: #d7dde2; }
      pre { margin: 0; font: 14px/1.35 "DejaVu Sans Mono", monospace; }
      .c1 { font-weight: bold; color: #fff; } .c2 { color: #84909a; } .c32 { color: #5fc98d; } .c33 { color: #e0b050; }
      .c131 { color: #f2776d; font-weight: bold; }
      </style><pre>\(lines.joined(separator: "\n"))</pre>
      """
  }

  private func html(_ line: String) -> String {
    var result = ""
    var rest = line[...]
    while let escape = rest.firstIndex(of: "\u{1b}") {
      result += escaped(rest[..<escape])
      rest = rest[escape...]
      guard let end = rest.dropFirst(2).firstIndex(where: \.isLetter) else { return result }
      let parameters = rest[rest.index(escape, offsetBy: 2)..<end].filter { $0 != ";" }
      if rest[end] == "m" { result += parameters == "0" ? "</span>" : "<span class=\"c\(parameters)\">" }
      rest = rest[rest.index(after: end)...]
    }
    return result + escaped(rest)
  }

  private func escaped(_ text: Substring) -> String {
    String(text).replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
  }
}
