// Memory is bounded before bytes arrive (I10): whoever keeps bytes beyond a worker's turn has charged them here first.

import BlockBackend

/// Which connection holds memory.
package struct ConnectionID: Hashable, Sendable, Comparable {
  package let rawValue: UInt64
  package init(rawValue: UInt64) { self.rawValue = rawValue }
  package static func < (a: ConnectionID, b: ConnectionID) -> Bool { a.rawValue < b.rawValue }
}

/// The memory of all connections. Pure; its owner excludes.
///
/// Half-sent payloads could starve each other: each holds memory, none can finish. Therefore enough for one maximum
/// payload is kept back, and only the oldest incomplete payload may draw on it.
package struct ByteBudget: Sendable {
  package enum Charge: Equatable {
    case granted
    /// The connection holds as much as one may: its own requests have to end first.
    case connectionIsFull
    /// All memory is in use. The connection has been queued; `released` names it when there is room.
    case mustWait
  }

  private let totalMax: Int
  private let connectionMax: Int
  private let reserve: Int
  private let isEnforced: Bool

  private(set) package var total = 0
  private var held: [ConnectionID: Int] = [:]
  /// Connections with an incomplete large payload, oldest first.
  private var incomplete: [ConnectionID] = []
  private var waiting: [ConnectionID] = []

  /// - Parameter payloadBytesMax: the largest payload that one request may carry, bytes.
  package init(limits: Limits, payloadBytesMax: Int, guards: GuardSwitches = .allStand) {
    totalMax = limits.totalBytesMax
    connectionMax = limits.connectionBytesMax
    reserve = min(payloadBytesMax, limits.totalBytesMax)
    isEnforced = guards.stands(.byteBudget)
  }

  /// Charges `bytes` to `id`. Never partly.
  package mutating func charge(_ bytes: Int, to id: ConnectionID) -> Charge {
    let own = held[id, default: 0]
    guard isEnforced else { return grant(bytes, to: id) }
    // One request may always be held, whatever its size: the limit on payloads bounds it.
    guard own == 0 || own + bytes <= connectionMax else { return .connectionIsFull }
    let available = incomplete.first == id || (incomplete.isEmpty && total == 0) ? totalMax : totalMax - reserve
    guard total + bytes <= available else {
      if !waiting.contains(id) { waiting.append(id) }
      return .mustWait
    }
    return grant(bytes, to: id)
  }

  /// Charges bytes that exist already and are bounded otherwise (replies that a socket did not take).
  package mutating func chargeExisting(_ bytes: Int, to id: ConnectionID) {
    _ = grant(bytes, to: id)
  }

  private mutating func grant(_ bytes: Int, to id: ConnectionID) -> Charge {
    total += bytes
    held[id, default: 0] += bytes
    waiting.removeAll { $0 == id }
    return .granted
  }

  /// Gives `bytes` of `id` back.
  /// - Returns: the connections that may try again now, oldest first.
  package mutating func release(_ bytes: Int, of id: ConnectionID) -> [ConnectionID] {
    guard let own = held[id] else { preconditionFailure("a connection releases what it was charged") }
    precondition(own >= bytes, "a connection releases no more than it was charged")
    held[id] = own == bytes ? nil : own - bytes
    total -= bytes
    return wake()
  }

  /// A large payload of `id` begins to arrive.
  package mutating func payloadBegins(_ id: ConnectionID) { incomplete.append(id) }

  /// It is complete, or will never be.
  /// - Returns: the connections that may try again now.
  package mutating func payloadEnds(_ id: ConnectionID) -> [ConnectionID] {
    incomplete.removeAll { $0 == id }
    return wake()
  }

  /// The connection is gone and holds nothing any more.
  package mutating func forget(_ id: ConnectionID) { waiting.removeAll { $0 == id } }

  private mutating func wake() -> [ConnectionID] {
    guard !waiting.isEmpty else { return [] }
    defer { waiting.removeAll() }
    return waiting
  }

  /// Somebody waits for memory.
  package var isContended: Bool { !waiting.isEmpty }

  /// Bytes that `id` holds.
  package func held(by id: ConnectionID) -> Int { held[id, default: 0] }

  /// The connections that hold memory, or the place of an incomplete payload, and do not wait for more.
  package var stallCandidates: [ConnectionID] {
    Set(held.keys).union(incomplete).filter { !waiting.contains($0) }.sorted()
  }
}
