// Real clients against the built daemon. One suite, one test at a time: the tests start daemons, mount file systems and watch
// memory, and would disturb each other. What only waits is in `Patience`, which runs its tests side by side.

import DaemonHarness
import Dispatch
import Glibc
import NBDClient
import Testing

@Suite(.serialized, .ownThreads) enum Integration {}

/// Tests here block in system calls. On threads of their own they do not hold up the few threads that all other tests share.
struct OwnThreads: SuiteTrait, TestTrait, TestScoping {
  var isRecursive: Bool { true }

  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable @concurrent () async throws -> Void
  ) async throws {
    guard testCase != nil else { return try await function() }
    try await withTaskExecutorPreference(ThreadPerJob()) { try await function() }
  }
}

extension Trait where Self == OwnThreads {
  static var ownThreads: Self { Self() }
}

private final class ThreadPerJob: TaskExecutor {
  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    let executor = asUnownedTaskExecutor()
    DispatchQueue(label: "test").async { job.runSynchronously(on: executor) }
  }
}

/// A trait for tests that need installed tools; they skip with the reason.
func needs(_ tools: String...) -> ConditionTrait {
  let missing = tools.filter { find($0) == nil }
  return .enabled(if: missing.isEmpty, "needs \(missing.joined(separator: ", "))")
}

/// A trait for tests that mount file systems or make loop devices.
var needsRoot: ConditionTrait {
  .enabled(if: geteuid() == 0 && exists("/dev/loop-control"), "needs root and loop devices")
}

/// Runs `bodies` on threads of their own and waits for all; rethrows the first error.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
  let group = DispatchGroup()
  let errors = ErrorBox()
  for index in 0..<count {
    DispatchQueue(label: "client \(index)").async(group: group) {
      do { try body(index) } catch { errors.set(error) }
    }
  }
  group.wait()
  if let error = errors.first { throw error }
}
