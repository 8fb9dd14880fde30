// What a server counts beside its exports: handshakes, latencies, reloads. Counters of exports are kept by name: they outlive
// connections, and an export that is taken away and comes back.

import Locking
import NBDServerCore
import Synchronization
import Syscalls

final class ServerStatistics: Sendable {
  /// From so many names on, those without connections that are not served are forgotten.
  private static let namesMax = 4096

  private struct State {
    var exports: [String: ExportStatistics] = [:]
    /// Names; more when more are served, so that they are not gone through each time.
    var namesMax = ServerStatistics.namesMax

    func isFull(for name: String) -> Bool { exports[name] == nil && exports.count >= namesMax }

    mutating func forget(but served: Set<String>) {
      exports = exports.filter { served.contains($0.key) || $0.value.isInUse }
      namesMax = max(ServerStatistics.namesMax, 2 * exports.count)
    }
    /// All images share one, in a daemon.
    var images: [ObjectIdentifier: ImageStatistics] = [:]
    var reload: ReloadStatus
  }

  let startedNanoseconds = MonotonicClock.nanoseconds
  let startedSeconds = WallClockTime.now().secondsSince1970
  private let shards: [LatencyShard] = (0..<16).map { _ in LatencyShard() }
  private let nextShard = Atomic<Int>(0)
  private let handshakes = InlineArray<8, Atomic<Int>> { _ in Atomic(0) }
  private let state: Locked<State>

  init() {
    precondition(HandshakeFailure.allCases.count == 8, "each failure of a handshake has its counter")
    var reload = ReloadStatus()
    reload.lastSeconds = startedSeconds
    state = Locked(State(reload: reload))
  }

  /// For one worker.
  func shardOfNextWorker() -> LatencyShard {
    shards[nextShard.wrappingAdd(1, ordering: .relaxed).oldValue & 15]
  }

  /// For threads that are no workers.
  func shard(of id: UInt64) -> LatencyShard { shards[Int(id & 15)] }

  /// Nil: it never had a connection.
  func export(named name: String) -> ExportStatistics? { state.withLock { $0.exports[name] } }

  /// A connection chose an export. In one step, because one without connections may be forgotten at any time.
  /// - Parameter served: names that are not forgotten.
  func attach(
    _ connection: ConnectionStatistics, to name: String, served: () -> [String]
  ) -> ExportStatistics {
    if state.withLock({ $0.isFull(for: name) }) {
      let served = Set(served())
      state.withLock { $0.forget(but: served) }
    }
    return state.withLock { state in
      let export = state.exports[name] ?? ExportStatistics()
      state.exports[name] = export
      export.attach(connection)
      return export
    }
  }

  func note(_ failure: HandshakeFailure) {
    guard let index = HandshakeFailure.allCases.firstIndex(of: failure) else { return }
    handshakes[index].add(1, ordering: .relaxed)
  }

  func noteReload(succeeded: Bool) {
    let now = WallClockTime.now().secondsSince1970
    state.withLock { state in
      state.reload.lastSucceeded = succeeded
      state.reload.count += 1
      if succeeded { state.reload.lastSeconds = now } else { state.reload.failures += 1 }
    }
  }

  /// Fills in what is counted here and in `images`, which are remembered: what they counted stays.
  func report(to status: inout ServerStatus, images: [ImageStatistics]) {
    let (all, reload) = state.withLock { state in
      for image in images { state.images[ObjectIdentifier(image)] = image }
      return (Array(state.images.values), state.reload)
    }
    for image in all { image.report(to: &status) }
    for shard in shards { shard.add(to: &status.latencies) }
    for (index, failure) in HandshakeFailure.allCases.enumerated() {
      status.handshakeFailures[failure] = UInt64(handshakes[index].load(ordering: .relaxed))
    }
    status.startedSeconds = startedSeconds
    status.nowSeconds = WallClockTime.now().secondsSince1970
    status.uptimeSeconds = Double(MonotonicClock.nanoseconds - startedNanoseconds) / 1e9
    status.reload = reload
  }
}

extension WallClockTime {
  fileprivate var secondsSince1970: Double { Double(seconds) + Double(milliseconds) / 1000 }
}

extension Server {
  /// A handshake ended for a reason that the handshake itself does not know of. Any thread.
  package func noteHandshakeFailure(_ failure: HandshakeFailure) { statistics.note(failure) }

  /// The configuration was read again. Any thread.
  package func noteReload(succeeded: Bool) { statistics.noteReload(succeeded: succeeded) }
}
