// What the operator does to a whole image while clients use it: lock all of it, flush it, clear its error. The caller's thread
// sleeps meanwhile, so it is neither the loop nor a worker, and it holds no lock.

import BlockBackend
import EventLoops
import Locking
import NBDServerCore
import SystemPackage

/// What a lock on everything keeps out.
package enum WholeLockMode: Sendable {
  /// Whatever changes bytes or layout.
  case shared
  /// READs and layout queries, too.
  case exclusive
}

/// Why nothing was done with a whole image.
package enum WholeLockError<Failure: Error>: Error {
  /// The requests in flight did not end in time.
  case busy
  /// It was locked, and this is what came of it.
  case failed(Failure)
}

extension Image {
  /// Every byte there is or may come to be.
  private static let everything: Range<UInt64> = 0..<1 << 63

  /// Runs `body` on this thread while no request of the other kind runs: those that came before have ended, those that come
  /// later wait (I5). They wait behind it from the moment it stands in the queue, hence the bound.
  /// - Parameters:
  ///   - waitMilliseconds: when the lock has not come by then, the place in the queue is given up.
  ///   - mutates: `body` changes bytes or layout, which the next FLUSH then covers (I7).
  package func withEverythingLocked<Value, Failure: Error>(
    _ mode: WholeLockMode, waitMilliseconds: Int, mutates: Bool, _ body: () throws(Failure) -> Value
  ) throws(WholeLockError<Failure>) -> Value {
    guard let token = lockEverything(mode, waitMilliseconds) else { throw .busy }
    defer { finish(token, mutated: mutates) }
    do throws(Failure) { return try body() } catch { throw .failed(error) }
  }

  /// - Returns: nil when the lock did not come in time.
  private func lockEverything(_ mode: WholeLockMode, _ waitMilliseconds: Int) -> LockToken? {
    let token: LockToken
    switch admit(Image.everything, mode == .shared ? .shared : .exclusive) {
    case .granted(let granted): return granted
    case .waiting(let waiting): token = waiting
    }
    let granted = Event()
    park(Parked(waking: { _ in granted.signal() }), behind: token)
    guard !granted.wait(milliseconds: waitMilliseconds) else { return token }
    if takePlaceBack(token) { return nil }
    // It came just now.
    granted.wait()
    return token
  }

  /// - Returns: false when the lock is granted, or about to be.
  private func takePlaceBack(_ token: LockToken) -> Bool {
    var runnable: [Parked] = []
    let isTaken = state.withLock { $0.core.cancelWaiting(token, runnable: &runnable) != nil }
    schedule(runnable)
    return isTaken
  }

  /// What a FLUSH of a client does: everything that was replied to is durable afterwards, and a failure is latched (I7).
  package func flush() throws(BackendError) {
    let answered = Event()
    let result = Locked<Errno?>(nil)
    syncThenAnswer(
      Parked(waking: { error in
        result.withLock { $0 = error }
        answered.signal()
      }))
    answered.wait()
    if let error = result.withLock({ $0 }) { throw BackendError(error) }
  }

  /// The operator says that the error of the failed sync has been dealt with: FLUSH and FUA work again, and the next one syncs.
  /// Bytes that were acknowledged before the error may be gone: Linux keeps in memory, as if they had been written, pages that it
  /// could not write. They are dropped here, so that from now on READs and snapshots find what the disk holds. Blocks.
  /// - Parameter waitMilliseconds: how long it waits for requests in flight, and others behind it.
  /// - Returns: the error that was there; nil: none.
  /// - Throws: also when what is still to be written cannot be, the error then stays latched; busy also while another clears it.
  package func clearError(
    waitMilliseconds: Int = Limits.wholeLockMilliseconds
  ) throws(WholeLockError<BackendError>) -> Errno? {
    guard state.withLock({ !exchange(&$0.isClearing, with: true) }) else { throw .busy }
    defer { state.withLock { $0.isClearing = false } }
    // From here on it stays latched, so nobody else syncs: the kernel would tell an error to one of us only.
    guard latchedError != nil else { return nil }
    // Most is written before others have to wait.
    do throws(BackendError) { try backend.sync() } catch { throw .failed(error) }
    return try withEverythingLocked(.exclusive, waitMilliseconds: waitMilliseconds, mutates: false) {
      () throws(BackendError) in
      // Dirty pages stay in memory; this makes clean ones of them.
      try backend.sync()
      try backend.forgetCached()
      return state.withLock { state in
        record.note(nil)
        return state.core.flush.clearLatch()
      }
    }
  }
}
