// One export while it is served, and for as long as a connection has it: who uses it, whether requests may come, and when it is
// gone. What its clients were told stays with them (I9); this is only what they were not told.

import Locking
import NBDProtocol
import NBDServerCore
import Synchronization

/// Safe from any thread. Lock order: the server's `exports`, then `state`; with `state` held no other lock is taken.
final class ServedExport: Sendable {
  let id: ExportID
  let image: Image
  private let state: Locked<State>

  /// Why no request may be taken now; 0: no reason. The lease holder looks at it once per batch.
  private let gate = Atomic<UInt8>(0)
  private static let paused: UInt8 = 1
  private static let full: UInt8 = 2
  private static let closing: UInt8 = 4

  /// Requests off the fast path.
  private let inFlight = Atomic<Int>(0)
  private let inFlightMax: Atomic<Int>

  private struct State {
    var export: Export
    var shape: ExportShape
    var life = ExportSnapshot.State.served
    var users: [ConnectionID: Connection] = [:]
    /// Users that stopped reading because the export has as many requests in flight as it may.
    var waiting: [Connection] = []
    var whenGone: [@Sendable (Departure) -> Void] = []
    var isGone = false
  }

  init(id: ExportID, _ export: Export, _ shape: ExportShape) {
    self.id = id
    image = export.image
    state = Locked(State(export: export, shape: shape))
    inFlightMax = Atomic(export.limits.requestsInFlight ?? .max)
  }

  // MARK: Who uses it

  /// A client gets the export, until `leave`. Nil: it has it.
  func admit(_ connection: Connection, _ peer: PeerIdentity) -> ExportRefusal? {
    state.withLock { state in
      // Whoever goes by an older table learns here that the export has gone since.
      guard state.life == .served else { return .unknown }
      guard state.export.access.admits(peer) else { return ServedExport.notAllowed }
      if let max = state.export.limits.connections, state.users.count >= max {
        return .policy("this export has \(max) connections, as many as it may have; try again later")
      }
      state.users[connection.id] = connection
      return nil
    }
  }

  static let notAllowed = ExportRefusal.policy("this export is not for clients with your address or user")

  /// The connection is closed: nothing of it is in flight any more.
  /// - Returns: the export was leaving, and this was its last client.
  func leave(_ connection: Connection) -> Bool {
    state.withLock { state in
      state.users[connection.id] = nil
      state.waiting.removeAll { $0 === connection }
      return ServedExport.goes(&state)
    }
  }

  /// True once.
  private static func goes(_ state: inout State) -> Bool {
    switch state.life {
    case .served, .hidden: return false
    case .draining, .closing: break
    }
    guard state.users.isEmpty, !state.isGone else { return false }
    state.isGone = true
    return true
  }

  var users: [Connection] { state.withLock { Array($0.users.values) } }

  // MARK: How it goes

  enum Leaving {
    case refused(connections: Int)
    /// `isGone`: nobody has it, and the caller has to bury it.
    case leaves(connections: Int, isGone: Bool)
    /// It has gone already.
    case tooLate
  }

  /// From here on no client gets it.
  func leave(_ mode: RemovalMode, whenGone: @escaping @Sendable (Departure) -> Void) -> Leaving {
    state.withLock { state in
      if state.isGone { return .tooLate }
      let connections = state.users.count
      switch mode {
      case .refuse:
        if connections > 0 { return .refused(connections: connections) }
        state.life = .draining
      case .hide:
        if state.life == .served { state.life = .hidden }
        return .leaves(connections: connections, isGone: false)
      case .drain: if state.life != .closing { state.life = .draining }
      case .now:
        state.life = .closing
        gate.bitwiseOr(ServedExport.closing, ordering: .sequentiallyConsistent)
      }
      state.whenGone.append(whenGone)
      return .leaves(connections: connections, isGone: ServedExport.goes(&state))
    }
  }

  /// - Returns: false when it was not hidden.
  func show() -> Bool {
    state.withLock { state in
      guard state.life == .hidden else { return false }
      state.life = .served
      return true
    }
  }

  func takeWhenGone() -> [@Sendable (Departure) -> Void] {
    state.withLock { exchange(&$0.whenGone, with: []) }
  }

  // MARK: Whether requests may come

  /// For the lease holder, once per batch: nothing keeps it from taking requests.
  var isOpen: Bool { gate.load(ordering: .relaxed) == 0 }

  /// When it is not open: how the lease ends. Nil: it opened meanwhile. Who pauses is woken when it opens.
  func hold(_ connection: Connection) -> Connection.LeaseEnd? {
    state.withLock { state in
      let reasons = gate.load(ordering: .sequentiallyConsistent)
      if reasons & ServedExport.closing != 0 { return .finish }
      if reasons & ServedExport.paused != 0 { return .pause }
      guard reasons & ServedExport.full != 0 else { return nil }
      if !state.waiting.contains(where: { $0 === connection }) { state.waiting.append(connection) }
      return .pause
    }
  }

  var isPaused: Bool { gate.load(ordering: .relaxed) & ServedExport.paused != 0 }

  /// The lease holders find out with their next batch.
  func pause() { gate.bitwiseOr(ServedExport.paused, ordering: .sequentiallyConsistent) }

  func resume() {
    gate.bitwiseAnd(~ServedExport.paused, ordering: .sequentiallyConsistent)
    for connection in users { connection.wake() }
  }

  /// While paused: everything that was admitted before has ended. No lock of a connection is taken with `state` held.
  var isQuiet: Bool { users.allSatisfy(\.isAtRest) }

  // MARK: Requests in flight

  /// A request leaves its worker.
  /// - Returns: whether there are as many now as may be.
  func began() -> Bool {
    let count = inFlight.add(1, ordering: .sequentiallyConsistent).newValue
    guard count >= inFlightMax.load(ordering: .relaxed) else { return false }
    // Before this request ends, so that its end sees it.
    gate.bitwiseOr(ServedExport.full, ordering: .sequentiallyConsistent)
    return true
  }

  /// It has ended.
  func ended() {
    let count = inFlight.subtract(1, ordering: .sequentiallyConsistent).newValue
    guard gate.load(ordering: .sequentiallyConsistent) & ServedExport.full != 0 else { return }
    let max = inFlightMax.load(ordering: .relaxed)
    // Those who wait come back together: not for each request that ends.
    if count <= max - Swift.max(1, max / 4) { makeRoom() }
  }

  private func makeRoom() {
    let woken = state.withLock { state in
      gate.bitwiseAnd(~ServedExport.full, ordering: .sequentiallyConsistent)
      return exchange(&state.waiting, with: [])
    }
    for connection in woken { connection.wake() }
  }

  // MARK: What it is

  /// What goes for requests, but is not told to clients: a connection keeps it as it was when it came.
  struct Terms {
    let name: String
    let ignoresTrim: Bool
    let durability: Durability
  }

  var terms: Terms {
    state.withLock { state in
      Terms(name: state.export.name, ignoresTrim: state.export.ignoresTrim, durability: state.export.durability)
    }
  }

  func change(to export: Export, _ shape: ExportShape) {
    state.withLock { state in
      state.export = export
      state.shape = shape
    }
    inFlightMax.store(export.limits.requestsInFlight ?? .max, ordering: .relaxed)
    // If there is none, those who wait find out.
    makeRoom()
  }

  var description: (export: Export, shape: ExportShape) { state.withLock { ($0.export, $0.shape) } }

  var isServed: Bool { state.withLock { $0.life == .served } }

  var snapshot: ExportSnapshot {
    state.withLock { state in
      ExportSnapshot(
        id: id, export: state.export, sizeBytes: state.shape.sizeBytes, isReadOnly: state.export.tellsReadOnly,
        state: state.life, isPaused: isPaused, connections: state.users.count,
        requestsInFlight: inFlight.load(ordering: .relaxed))
    }
  }
}
