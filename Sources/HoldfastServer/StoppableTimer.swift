// Timers that stop themselves, and the report of the last sync.

import EventLoops
import Locking
import Logging
import Synchronization

/// Lets the body of a timer stop it.
final class StoppableTimer: Sendable {
  private let timer = Locked<LoopTimer?>(nil)
  private let isStopped = Atomic<Bool>(false)

  func start(_ timer: LoopTimer) {
    self.timer.withLock { $0 = timer }
    if isStopped.load(ordering: .sequentiallyConsistent) { timer.cancel() }
  }

  var hasStopped: Bool { isStopped.load(ordering: .sequentiallyConsistent) }

  func stop() {
    isStopped.store(true, ordering: .sequentiallyConsistent)
    timer.withLock { exchange(&$0, with: nil) }?.cancel()
  }
}

/// Says each second which image is being synced: a disk may take minutes, and an operator has to know what for.
final class FinalSyncReport: Sendable {
  private let timer: LoopTimer

  init(logger: Logger, loop: EventLoop) {
    let current = SharedName()
    name = current
    timer = loop.every(milliseconds: 1000) {
      if let export = current.value { logger.notice("syncing the image of export \"\(export)\"") }
    }
  }

  private let name: SharedName

  func begin(_ export: String) { name.value = export }

  func stop() { timer.cancel() }
}

private final class SharedName: Sendable {
  private let name = Locked<String?>(nil)
  var value: String? {
    get { name.withLock { $0 } }
    set { name.withLock { $0 = newValue } }
  }
}
