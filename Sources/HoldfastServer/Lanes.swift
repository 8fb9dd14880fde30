// The threads that requests run on, and how many each image may hold up.

import EventLoops
import NBDServerCore
import RangeLocks

typealias LockToken = RangeLockTable.Token
typealias LockTableMode = RangeLockTable.Mode

/// The pool for what blocks, shared by all images of a server.
package struct Lanes: Sendable {
  let slow: SlowLane
  /// Half of the pool.
  let perImageMax: Int
  /// Half of the workers that may be awake.
  let inlinePerImageMax: Int
  /// Half of all workers: those that wait for a disk are asleep.
  let waitingPerImageMax: Int
  let statistics = ImageStatistics()

  /// Threads that do blocking calls: enough to keep a disk's queue busy, few enough to stay cheap.
  private static let slowThreadsMax = 32

  /// Threads without work end after this.
  static let idleSeconds = 10

  package init(workersAwakeMax: Int, workersMax: Int = Server.workersMax) {
    slow = SlowLane(name: "slow", threadsMax: Lanes.slowThreadsMax, idleSeconds: Lanes.idleSeconds)
    perImageMax = Lanes.slowThreadsMax / 2
    inlinePerImageMax = max(1, workersAwakeMax / 2)
    waitingPerImageMax = max(1, workersMax / 2)
  }

  /// `fdatasync` of a hung image would take a place in the pool for as long as it hangs.
  func makeSyncLane() -> SlowLane {
    SlowLane(name: "sync", threadsMax: 1, idleSeconds: Lanes.idleSeconds)
  }
}
