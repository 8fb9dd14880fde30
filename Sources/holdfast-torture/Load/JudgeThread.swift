// Judges epochs while the next ones are running, on a thread of its own. At most two wait, so that memory is bounded.

import Glibc
import Locking
import Syscalls
import Torture

final class JudgeThread: Sendable {
  private struct State {
    var waiting: [Epoch] = []
    var isJudging = false
    var isOver = false
    var findings: [Finding] = []
    var epochsWith: [Torture.Category: Int] = [:]
    var judged = 0
  }

  private let state = Locked(State())
  private static let waitingMax = 2
  /// Of each category; more of the same say nothing new.
  private static let findingsMax = 5

  init() throws {
    try PosixThread.spawn(name: "judge") { self.work() }
  }

  private func work() {
    while true {
      let (epoch, isOver) = state.withLock { state -> (Epoch?, Bool) in
        guard !state.waiting.isEmpty else { return (nil, state.isOver) }
        state.isJudging = true
        return (state.waiting.removeFirst(), false)
      }
      if isOver { return }
      guard let epoch else {
        usleep(500)
        continue
      }
      let findings = EpochJudge.judge(epoch)
      state.withLock { state in
        state.isJudging = false
        state.judged += epoch.requests.count
        for category in Set(findings.map(\.category)) { state.epochsWith[category, default: 0] += 1 }
        for finding in findings
        where state.findings.count(where: { $0.category == finding.category }) < JudgeThread.findingsMax {
          state.findings.append(finding)
        }
      }
    }
  }

  /// Waits while too many others do.
  func judge(_ epoch: Epoch) {
    while state.withLock({ $0.waiting.count >= JudgeThread.waitingMax }) { usleep(500) }
    state.withLock { $0.waiting.append(epoch) }
  }

  /// What has been found up to now.
  var findings: [Finding] { state.withLock { $0.findings } }
  var epochsWith: [Torture.Category: Int] { state.withLock { $0.epochsWith } }
  var judged: Int { state.withLock { $0.judged } }

  /// Waits until everything that was handed in has been judged, and ends the thread.
  func end() {
    while state.withLock({ !$0.waiting.isEmpty || $0.isJudging }) { usleep(500) }
    state.withLock { $0.isOver = true }
  }
}
