// A program that runs beside us: started, signalled, and waited for.

import CLinux
import Glibc
import SystemPackage

/// Its number is ours until it is reaped; afterwards it may be a stranger's.
package struct ChildProcess: Sendable {
  /// How it ended.
  package enum End: Equatable, Sendable {
    case exited(Int32)
    case killed(by: Int32)

    /// As shells report it: 128 and the signal for one that was killed.
    package var shellStatus: Int32 {
      switch self {
      case .exited(let status): status
      case .killed(let number): 128 + number
      }
    }
  }

  private let pid: Int32

  /// Starts `path`, which is not looked for. It gets our descriptors 0, 1 and 2, our environment with `variables`
  /// (`NAME=value`) in it, no blocked signal, and the default action for those that a server ignores.
  /// - Throws: why the kernel would not start it.
  package init(_ path: String, _ arguments: [String], adding variables: [String]) throws(Errno) {
    pid = try checked(
      unsafe withCStrings([path] + arguments) { argv in
        unsafe withCStrings(variables) { added in unsafe hf_spawn(path, argv, added) }
      })
  }

  /// Blocks until it has ended; its number stays its own.
  package func awaitEnd() throws(Errno) { _ = try checked(hf_await_child(pid)) }

  /// How it ended, and gives the number back. Once, after `awaitEnd`; `signal` must not be called any more.
  package func reap() throws(Errno) -> End {
    let result = try checked(hf_reap(pid))
    return result >= 256 ? .killed(by: result - 256) : .exited(result)
  }

  /// Any thread, before `reap`.
  package func signal(_ number: Int32) { _ = hf_kill(pid, number) }
}

/// `body` with a null-terminated array of null-terminated copies.
private func withCStrings(
  _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Int32
) -> Int32 {
  // `calloc` leaves the null at the end.
  let size = unsafe MemoryLayout<UnsafeMutablePointer<CChar>?>.stride
  guard let memory = unsafe calloc(strings.count + 1, size) else { return -ENOMEM }
  let array = unsafe memory.bindMemory(to: UnsafeMutablePointer<CChar>?.self, capacity: strings.count + 1)
  defer {
    for index in strings.indices { unsafe free(array[index]) }
    unsafe free(memory)
  }
  for index in strings.indices { unsafe array[index] = strdup(strings[index]) }
  return unsafe body(array)
}

// MARK: - Parents

/// Who started this process, and whether it still runs.
package struct ParentProcess: Sendable {
  private let pid: Int32

  /// The parent at this moment. Best taken as early as can be: a parent that has ended before cannot be told from process 1.
  package static func now() -> ParentProcess { ParentProcess(pid: getppid()) }

  /// From now on this process gets `number` when the thread that started it ends.
  /// - Returns: false when the parent had ended before: the signal will not come.
  package func sendsSignalWhenItEnds(_ number: Int32) throws(Errno) -> Bool {
    _ = try checked(hf_set_parent_death_signal(number))
    // It may have ended between `now` and the call; then somebody else is the parent.
    return getppid() == pid && !isStepfather
  }

  /// Process 1 takes orphans in. Those that it started itself it leaves in its session.
  private var isStepfather: Bool { pid == 1 && getsid(0) != getsid(1) }
}

/// The number of this process.
package func processNumber() -> Int32 { getpid() }
