// How the process ends: who may ask for it, what has to end before, and the status it ends with.
//
//     signal ─┐                        ┌▶ server: in flight, last sync ─┐
//     idle ───┼▶ begin, or at once ────┤                                ├▶ what was registered with `atEnd`, exit
//     command ┘   (second signal)      └▶ command of --run ─────────────┘

import EventLoops
import Glibc
import HoldfastServer
import Locking
import Logging
import Syscalls
import SystemPackage

final class Ending: Sendable {
  /// A command that was asked to end gets so long, in milliseconds.
  private static let patienceMilliseconds = 5000

  private let server: Server
  private let supervision: Supervision?
  private let logger: Logger
  private let state = Locked(State())

  private struct State {
    var hasBegun = false
    /// In the order of registration.
    var duties: [@Sendable () -> Void] = []
    var command: CaptiveCommand?
    /// As a shell would report it.
    var commandStatus: Int32?
    var serverStatus: Int32?
    var isDone = false
  }

  init(_ server: Server, _ supervision: Supervision?, logger: Logger) {
    self.server = server
    self.supervision = supervision
    self.logger = logger
  }

  /// `duty` is done before the process exits, behind the last sync; those registered last come first. Any thread.
  func atEnd(_ duty: @escaping @Sendable () -> Void) { state.withLock { $0.duties.append(duty) } }

  /// Stops the server, and then the process. Any thread; calls behind the first change nothing.
  /// - Parameter signal: what has asked for it, if that was a signal: the command of --run gets it as well.
  func begin(signal: Int32? = nil) {
    let command = state.withLock { state -> CaptiveCommand?? in
      guard !state.hasBegun else { return nil }
      state.hasBegun = true
      return .some(state.command)
    }
    guard let command else { return }
    if let signal { command?.signal(signal) }
    supervision?.stop()
    server.shutDown { [self] end in serverEnded(end.failedSyncs.isEmpty ? 0 : ExitStatus.ioError.rawValue) }
  }

  /// Ends the process in good order with the status of `failure`: nothing has been served.
  func fail(_ failure: CommandFailure) -> Never {
    server.shutDown { [self] _ in
      doDuties()
      Holdfast.exit(with: failure)
    }
    sleepForEver()
  }

  /// Starts `command`, and ends the process when it ends. Nothing happens when the end has begun.
  func run(_ command: CaptiveCommand) {
    let isTooLate = state.withLock { state in
      if !state.hasBegun { state.command = command }
      return state.hasBegun
    }
    if isTooLate { return }
    do throws(CommandFailure) {
      try command.start { [self] status in commandEnded(status) }
    } catch {
      Holdfast.print(error)
      commandEnded(error.status.rawValue)
    }
  }

  private func commandEnded(_ status: Int32) {
    state.withLock { $0.commandStatus = status }
    logger.debug("the command of --run has ended with status \(status)")
    begin()
    finishIfDone()
  }

  private func serverEnded(_ status: Int32) {
    let command = state.withLock { state in
      state.serverStatus = status
      return state.commandStatus == nil ? state.command : nil
    }
    guard let command else { return finishIfDone() }
    server.loop.after(milliseconds: Ending.patienceMilliseconds) { [self] in
      logger.warning("the command of --run has not ended in \(Ending.patienceMilliseconds / 1000) s: killing it")
      command.signal(SIGKILL)
    }
  }

  /// When both have ended. On one of their threads.
  private func finishIfDone() {
    let status = state.withLock { state -> Int32? in
      guard let server = state.serverStatus, state.command == nil || state.commandStatus != nil, !state.isDone else {
        return nil
      }
      state.isDone = true
      // A command that is content does not know that its data may be lost.
      if let command = state.commandStatus, command != 0 { return command }
      return server
    }
    guard let status else { return }
    doDuties()
    exit(status)
  }

  private func doDuties() {
    for duty in state.withLock({ exchange(&$0.duties, with: []) }).reversed() { duty() }
  }
}
