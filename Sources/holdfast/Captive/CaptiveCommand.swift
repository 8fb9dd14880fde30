// The command of --run: a shell beside the server.

import Glibc
import Locking
import Syscalls
import SystemPackage

final class CaptiveCommand: Sendable {
  private let text: String
  private let variables: CaptiveVariables
  private let state = Locked(State.notStarted(signal: nil))

  private enum State {
    /// With a signal that came too early.
    case notStarted(signal: Int32?)
    case running(ChildProcess)
    /// It has been waited for: its number may be a stranger's.
    case ended
  }

  init(_ text: String, _ variables: CaptiveVariables) {
    self.text = text
    self.variables = variables
  }

  /// Starts it. `onEnd` is called once, on a thread of its own, with the status as a shell reports it.
  /// - Parameter shell: for tests.
  func start(shell: String = "/bin/sh", onEnd: @escaping @Sendable (Int32) -> Void) throws(CommandFailure) {
    let child: ChildProcess
    do throws(Errno) {
      child = try ChildProcess(shell, ["-c", text], adding: variables.assignments)
    } catch {
      throw CommandFailure(.systemError, "cannot start \(shell) for --run: \(reason(error))")
    }
    state.withLock { state in
      if case .notStarted(let number?) = state { child.signal(number) }
      state = .running(child)
    }
    do throws(Errno) {
      try PosixThread.spawn(name: "command") { [self] in onEnd(wait(child)) }
    } catch {
      child.signal(SIGKILL)
      throw CommandFailure(.systemError, "cannot wait for the command of --run: no thread: \(reason(error))")
    }
  }

  /// Any thread; nothing happens when it has ended.
  func signal(_ number: Int32) {
    state.withLock { state in
      switch state {
      case .notStarted: state = .notStarted(signal: number)
      case .running(let child): child.signal(number)
      case .ended: break
      }
    }
  }

  private func wait(_ child: ChildProcess) -> Int32 {
    do throws(Errno) {
      try child.awaitEnd()
      // It has ended, so that nobody waits here.
      return try state.withLock { (state) throws(Errno) in
        state = .ended
        return try child.reap().shellStatus
      }
    } catch {
      return ExitStatus.systemError.rawValue
    }
  }
}
