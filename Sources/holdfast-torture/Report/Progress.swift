// How far a run is, on stderr: one line on a terminal, otherwise a line each 10 s.

import Glibc

final class Progress {
  private let isQuiet: Bool
  private let isTerminal = isatty(2) == 1
  private let operations: Int?
  private let seconds: Double?
  private let start = monotonicNanoseconds()
  private var lastShown = monotonicNanoseconds()
  private var hasLine = false

  init(isQuiet: Bool, operations: Int?, seconds: Double?) {
    (self.isQuiet, self.operations, self.seconds) = (isQuiet, operations, seconds)
  }

  func show(answered: Int, judged: Int, findings: Int) {
    let now = monotonicNanoseconds()
    guard !isQuiet, now - lastShown >= (isTerminal ? 200_000_000 : 10_000_000_000) else { return }
    lastShown = now
    let elapsed = Double(now - start) / 1e9
    var share = seconds.map { elapsed / $0 } ?? 0
    if let operations { share = max(share, Double(answered) / Double(operations)) }
    let text =
      "\(Int(min(1, share) * 100)) %  \(answered) requests  \(Int(Double(answered) / elapsed))/s  "
      + "\(judged) judged  \(findings) findings"
    say(isTerminal ? "\r\u{1b}[K\(text)" : text + "\n")
    hasLine = isTerminal
  }

  func end() {
    if hasLine { say("\r\u{1b}[K") }
  }
}

/// Writes to stderr.
func say(_ text: String) {
  let bytes = Array(text.utf8)
  _ = bytes.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
}
