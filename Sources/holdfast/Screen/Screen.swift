// A terminal that is drawn on again and again: on its alternate screen, so that what was there comes back; each frame in one write
// and without clearing first, so that nothing flickers.

import EventLoops
import Glibc
import Locking
import Syscalls
import SystemPackage

final class Screen: Sendable {
  private static let enter = "\u{1b}[?1049h\u{1b}[?25l"
  private static let leave = "\u{1b}[?25h\u{1b}[?1049l"
  private static let home = "\u{1b}[H"
  private static let endLine = "\u{1b}[K"
  private static let clearBelow = "\u{1b}[J"

  private let loop = EventLoop(label: "holdfast.screen")
  private let isOver = Locked(false)
  let colors: Bool

  /// Takes the terminal until `close`, or until a signal ends the process with status 0.
  init(colors: Bool) throws(CommandFailure) {
    self.colors = colors
    for signal in [SIGINT, SIGTERM, SIGHUP] {
      do throws(Errno) {
        try loop.onSignal(signal) { [self] in
          close()
          exit(0)
        }
      } catch {
        throw CommandFailure(.internalError, "cannot handle signals: \(reason(error))")
      }
    }
    try writeToStandardOutput(Screen.enter)
  }

  /// Gives the terminal back. Again is fine.
  func close() {
    isOver.withLock { isOver in
      if !isOver { try? writeToStandardOutput(Screen.leave) }
      isOver = true
    }
  }

  func draw(_ frame: (_ columns: Int, _ rows: Int) -> [StyledLine]) throws(CommandFailure) {
    let size = Terminal.size ?? (columns: 80, rows: 24)
    let text = Screen.text(frame(size.columns, size.rows), columns: size.columns, rows: size.rows, colors: colors)
    try isOver.withLock { (isOver) throws(CommandFailure) in
      if !isOver { try writeToStandardOutput(text) }
    }
  }

  /// One frame. Pure.
  static func text(_ lines: [StyledLine], columns: Int, rows: Int, colors: Bool) -> String {
    let shown = lines.prefix(rows).map { $0.rendered(width: columns, colors: colors) + endLine }
    return home + shown.joined(separator: "\r\n") + clearBelow
  }
}

/// Colours are for people at terminals who have not said otherwise (no-color.org).
func wantsColors() -> Bool {
  Terminal.isStandardOutput && (environmentVariable("NO_COLOR") ?? "").isEmpty && environmentVariable("TERM") != "dumb"
}
