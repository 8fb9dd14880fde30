// Threads, clock and limits.

import Dispatch
import Glibc
import Locking
import Synchronization
import Syscalls
import SystemPackage
import Testing

@Suite struct ThreadTests {
  @Test func aThreadHasItsNameAndNoSignals() throws {
    let seen = Locked<(name: String, blocked: Int32)>(("", 0))
    let done = Done()
    try PosixThread.spawn(name: "holdfast worker number 1") {
      var mask = sigset_t()
      unsafe pthread_sigmask(SIG_BLOCK, nil, &mask)
      let name = try? readAll("/proc/thread-self/comm")
      let blocked = unsafe sigismember(&mask, SIGTERM)
      seen.withLock { $0 = (name ?? "", blocked) }
      done.signal()
    }
    #expect(done.wait())
    let (name, blocked) = seen.withLock { $0 }
    #expect(name == "holdfast worker\n")
    #expect(blocked == 1)
  }

  @Test(.enabled(if: unsafe getenv("HOLDFAST_SANITIZED") == nil, "sanitizers need address space of their own"))
  func aThreadThatCannotBeMadeIsAnError() async {
    await #expect(processExitsWith: .success) {
      // No address space for another stack.
      var limit = rlimit(rlim_cur: 0, rlim_max: rlim_t.max)
      #expect(unsafe setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0)
      #expect(throws: Errno.resourceTemporarilyUnavailable) { try PosixThread.spawn(name: "none") {} }
    }
  }

  @Test func aThreadKnowsThatAnotherTookItsProcessor() throws {
    let cpus = try PosixThread.cpus()
    let first = cpus & (0 &- cpus)
    let end = MonotonicClock.nanoseconds + 10_000_000_000
    let hasNoticed = Atomic<Bool>(false)
    let (noticed, left) = (Done(), Done())
    try PosixThread.spawn(name: "one") {
      try? PosixThread.run(onCPUs: first)
      let before = PosixThread.preemptionCount
      while PosixThread.preemptionCount < before + 20 && MonotonicClock.nanoseconds < end {}
      hasNoticed.store(PosixThread.preemptionCount >= before + 20, ordering: .releasing)
      noticed.signal()
    }
    try PosixThread.spawn(name: "other") {
      try? PosixThread.run(onCPUs: first)
      while !hasNoticed.load(ordering: .acquiring) && MonotonicClock.nanoseconds < end {}
      left.signal()
    }
    #expect(noticed.wait())
    #expect(left.wait())
    let isNoticed = hasNoticed.load(ordering: .acquiring)
    #expect(isNoticed)
    // A thread has a count of its own: a new one was not there when the others lost theirs.
    let ofNew = Locked(Int64.max)
    let read = Done()
    try PosixThread.spawn(name: "new") {
      let count = PosixThread.preemptionCount
      ofNew.withLock { $0 = count }
      read.signal()
    }
    #expect(read.wait())
    #expect(ofNew.withLock { $0 } < 20)
  }

  @Test func theClockDoesNotGoBack() {
    let first = MonotonicClock.nanoseconds
    sleepMilliseconds(2)
    #expect(MonotonicClock.nanoseconds - first >= 2_000_000)
  }

  @Test func theDescriptorLimitIsRaisedAndNeverLowered() async {
    await #expect(processExitsWith: .success) {
      let hard = try DescriptorLimit.current().hard
      try DescriptorLimit.set(soft: 64)
      #expect(try DescriptorLimit.raise(to: 100) == min(100, hard))
      #expect(try DescriptorLimit.raise(to: 80) == min(100, hard))
      #expect(try DescriptorLimit.raise(to: .max) == hard)
      #expect(try DescriptorLimit.current().soft == hard)
    }
  }
}

/// Something has happened on another thread.
final class Done: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)

  func signal() { semaphore.signal() }

  /// False after ten seconds.
  func wait() -> Bool { semaphore.wait(timeout: .now() + .seconds(10)) == .success }
}

/// At most 64 bytes.
func readAll(_ path: FilePath) throws -> String {
  let file = try FileDescriptor.open(path, .readOnly)
  defer { try? file.close() }
  var bytes = [UInt8](repeating: 0, count: 64)
  let count = unsafe try bytes.withUnsafeMutableBytes { unsafe try file.read(into: $0) }
  return String(decoding: bytes.prefix(count), as: UTF8.self)
}
