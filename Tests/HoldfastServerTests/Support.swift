// What the tests of the server share: threads, seeds, waiting.

import Foundation
import Synchronization
import TestBackends
import Testing

/// A fresh seed, printed so that a failure can be repeated: put the number in the place of the call.
func printedSeed(_ test: String = #function) -> UInt64 {
  let seed = UInt64.random(in: .min ... .max)
  print("\(test) seed \(seed)")
  return seed
}

/// Calls `body` on `count` threads of their own and waits for all. An error of one is an issue.
func onThreads(_ count: Int, _ body: @escaping @Sendable (_ index: Int) throws -> Void) {
  let done = DispatchSemaphore(value: 0)
  for index in 0..<count {
    Thread {
      do { try body(index) } catch { Issue.record("thread \(index): \(error)") }
      done.signal()
    }.start()
  }
  for _ in 0..<count { done.wait() }
}

/// A number from the environment: how often a random test runs.
func runs(_ name: String, default count: Int) -> Int {
  ProcessInfo.processInfo.environment[name].flatMap(Int.init) ?? count
}
