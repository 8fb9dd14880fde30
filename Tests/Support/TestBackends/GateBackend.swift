// Holds calls at a gate until the test lets them go: makes "still in flight" a state that a test can create.

import BlockBackend
import Dispatch
import Locking

/// Records every call in the order of arrival. A closed gate blocks the thread of each call of its kind.
package final class GateBackend: WrappingBackend {
  package let inner: any BlockBackend
  private let state = Locked(State())

  private struct Held {
    var call: BackendCall
    var mayGo = DispatchSemaphore(value: 0)
  }

  private struct State {
    var closed: Set<BackendCall.Kind> = []
    var held: [Held] = []
    var arrived: [BackendCall] = []
    var finished: [BackendCall] = []
    var watchers: [DispatchSemaphore] = []

    func tellWatchers() { for watcher in watchers { watcher.signal() } }
  }

  package init(_ inner: any BlockBackend) { self.inner = inner }

  // MARK: For the test

  /// From now on calls of these kinds are held.
  package func close(_ kinds: BackendCall.Kind...) { state.withLock { $0.closed.formUnion(kinds) } }

  /// Lets everything of these kinds go, now and later. Without kinds: everything.
  package func open(_ kinds: BackendCall.Kind...) {
    let kinds = Set(kinds.isEmpty ? BackendCall.Kind.allCases : kinds)
    state.withLock { state in
      state.closed.subtract(kinds)
      for held in state.held where kinds.contains(held.call.kind) { held.mayGo.signal() }
      state.held.removeAll { kinds.contains($0.call.kind) }
    }
  }

  /// Lets the oldest held call of a kind go, and returns it. The gate stays closed.
  @discardableResult
  package func release(_ kind: BackendCall.Kind) -> BackendCall? {
    state.withLock { state in
      guard let index = state.held.firstIndex(where: { $0.call.kind == kind }) else { return nil }
      let held = state.held.remove(at: index)
      held.mayGo.signal()
      return held.call
    }
  }

  /// Lets the newest held call of a kind go. The gate stays closed.
  package func releaseNewest(_ kind: BackendCall.Kind) {
    state.withLock { state in
      guard let index = state.held.lastIndex(where: { $0.call.kind == kind }) else { return }
      state.held.remove(at: index).mayGo.signal()
    }
  }

  /// Every call so far, in the order of arrival, held ones included.
  package var arrived: [BackendCall] { state.withLock { $0.arrived } }
  /// Every call that has succeeded, in the order of completion.
  package var finished: [BackendCall] { state.withLock { $0.finished } }
  package var held: [BackendCall] { state.withLock { $0.held.map(\.call) } }

  /// Waits until `count` calls of a kind are held. False: not within the time.
  package func waitUntilHeld(_ kind: BackendCall.Kind, count: Int = 1, timeoutSeconds: Double = 10) -> Bool {
    wait(timeoutSeconds) { $0.held.count { $0.call.kind == kind } >= count }
  }

  /// Waits until `count` calls of a kind have succeeded. False: not within the time.
  package func waitUntilFinished(_ kind: BackendCall.Kind, count: Int = 1, timeoutSeconds: Double = 10) -> Bool {
    wait(timeoutSeconds) { $0.finished.count { $0.kind == kind } >= count }
  }

  private func wait(_ timeoutSeconds: Double, until isTrue: (borrowing State) -> Bool) -> Bool {
    let deadline = DispatchTime.now() + timeoutSeconds
    let changed = DispatchSemaphore(value: 0)
    state.withLock { $0.watchers.append(changed) }
    defer { state.withLock { $0.watchers.removeAll { $0 === changed } } }
    while true {
      if state.withLock({ isTrue($0) }) { return true }
      if changed.wait(timeout: deadline) == .timedOut { return state.withLock { isTrue($0) } }
    }
  }

  // MARK: For the caller

  package func before(_ call: BackendCall) throws(BackendError) {
    let gate: DispatchSemaphore? = state.withLock { state in
      defer { state.tellWatchers() }
      state.arrived.append(call)
      guard state.closed.contains(call.kind) else { return nil }
      let held = Held(call: call)
      state.held.append(held)
      return held.mayGo
    }
    gate?.wait()
  }

  package func after(_ call: BackendCall) {
    state.withLock { state in
      state.finished.append(call)
      state.tellWatchers()
    }
  }
}
