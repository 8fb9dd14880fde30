// Threads of our own: what blocks runs on these, never on a Dispatch queue.

import CLinux
import SystemPackage

package enum PosixThread {
  /// `spawn`, or a test's stand-in for it.
  package typealias Spawn =
    @Sendable (_ name: String, _ body: @escaping @Sendable () -> Void) throws(Errno) -> Void

  /// Enough for debug builds; buffers live on the heap.
  package static let stackBytes = 1 << 20

  /// Runs `body` on a new detached thread with all signals blocked. `name` is cut to 15 bytes. Throws
  /// `.resourceTemporarilyUnavailable` when the system has no thread to give; `body` has not run then and never will.
  package static func spawn(name: String, _ body: @escaping @Sendable () -> Void) throws(Errno) {
    let start = unsafe Unmanaged.passRetained(ThreadStart(name: name, body: body))
    let result = unsafe hf_thread_create(stackBytes, threadMain, start.toOpaque())
    if result < 0 { unsafe start.release() }
    _ = try checked(result)
  }

  /// The calling thread, and what it starts from now on, runs on the processors whose bits are set in `cpus` only.
  package static func run(onCPUs cpus: UInt64) throws(Errno) { _ = try checked(hf_thread_set_cpus(cpus)) }

  /// The processors, of the first 64, on which the calling thread may run.
  package static func cpus() throws(Errno) -> UInt64 {
    var cpus: UInt64 = 0
    _ = try checked(unsafe hf_thread_cpus(&cpus))
    return cpus
  }

  /// How often another thread has taken the processor from the calling one: the involuntary switches of `getrusage(2)`.
  package static var preemptionCount: Int64 { hf_thread_preemptions() }
}

private final class ThreadStart: Sendable {
  let name: String
  let body: @Sendable () -> Void

  init(name: String, body: @escaping @Sendable () -> Void) {
    self.name = name
    self.body = body
  }
}

// A global function: a closure formed on the main actor would trap on this thread.
private func threadMain(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  // `spawn` retained it for this thread alone, and passes no nil.
  let start = unsafe Unmanaged<ThreadStart>.fromOpaque(context!).takeRetainedValue()
  _ = unsafe hf_thread_set_name(String(decoding: start.name.utf8.prefix(15), as: UTF8.self))
  start.body()
  return nil
}
