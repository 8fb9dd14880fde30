// Memory is bounded before bytes arrive (I10): whoever keeps bytes beyond a worker's turn has charged them here first.

import BlockBackend
import NBDProtocol

/// Which connection holds memory.
package struct ConnectionID: Hashable, Sendable, Comparable {
  package let rawValue: UInt64
  package init(rawValue: UInt64) { self.rawValue = rawValue }
  package static func < (a: ConnectionID, b: ConnectionID) -> Bool { a.rawValue < b.rawValue }
}

/// Which image the requests of a connection go to.
package struct ImageKey: Hashable, Sendable {
  package let rawValue: Int
  package init(rawValue: Int) { self.rawValue = rawValue }
}

/// The memory of all connections. Pure; its owner excludes.
///
/// Half-sent payloads could starve each other: each holds memory, none can finish. Therefore enough for one maximum
/// payload is kept back, and only the oldest incomplete payload may draw on it. What is only announced counts for nothing:
/// else a client could stop the others with 28 bytes.
package struct ByteBudget: Sendable {
  package enum Charge: Equatable {
    case granted
    /// The connection holds as much as one may: its own requests have to end first.
    case connectionIsFull
    /// All memory is in use. The connection has been queued; `released` names it when there is room.
    case mustWait
  }

  private struct Waiter {
    let id: ConnectionID
    /// What it was refused last.
    var bytes: Int
  }

  private struct IncompletePayload {
    let id: ConnectionID
    /// What its connection was granted since it began.
    var bytes = 0
  }

  private let totalMax: Int
  private let connectionMax: Int
  private let imageMax: Int
  private let smallMax: Int
  private let reserve: Int
  private let isEnforced: Bool

  private(set) package var total = 0
  private var held: [ConnectionID: Int] = [:]
  private var imageOf: [ConnectionID: ImageKey] = [:]
  private var heldByImage: [ImageKey: Int] = [:]
  /// Of connections to exports that have a limit of their own.
  private var exportOf: [ConnectionID: ExportID] = [:]
  private var heldByExport: [ExportID: Int] = [:]
  private var exportMax: [ExportID: Int] = [:]
  /// Large payloads that are not complete, oldest first.
  private var incomplete: [IncompletePayload] = []
  private var waiting: [Waiter] = []
  /// Bytes that were received and wait for a worker.
  private var parked: [ConnectionID: Int] = [:]
  private var parkedTotal = 0

  /// - Parameter payloadBytesMax: the largest payload that one request may carry, bytes.
  package init(limits: Limits, payloadBytesMax: Int, guards: GuardSwitches = .allStand) {
    totalMax = limits.totalBytesMax
    connectionMax = limits.connectionBytesMax
    imageMax = limits.imageBytesMax
    smallMax = limits.smallChargeBytesMax
    reserve = min(payloadBytesMax, limits.totalBytesMax)
    isEnforced = guards.stands(.byteBudget)
  }

  /// What `id` holds counts for this image too from now on, so that one that hangs does not hold all memory; and for this
  /// export, if it has a limit. Once for each connection.
  package mutating func attach(_ id: ConnectionID, to image: ImageKey, of export: ExportID? = nil) {
    imageOf[id] = image
    // Replies to options that are still in the queue: when they are given back, they are taken off this image.
    let own = held[id, default: 0] - parked[id, default: 0]
    if own > 0 { heldByImage[image, default: 0] += own }
    guard let export, exportMax[export] != nil else { return }
    exportOf[id] = export
    if own > 0 { heldByExport[export, default: 0] += own }
  }

  /// The clients of `export` that come from now on, and those that came while it had a limit, hold at most so much together.
  /// Nil: no limit.
  /// - Returns: the connections that may try again now.
  package mutating func limit(_ export: ExportID, to bytesMax: Int?) -> [ConnectionID] {
    exportMax[export] = bytesMax
    return wake()
  }

  /// Charges `bytes` to `id`. Never partly.
  package mutating func charge(_ bytes: Int, to id: ConnectionID) -> Charge {
    guard isEnforced else { return granted(bytes, to: id) }
    // One request may always be held, whatever its size: the limit on payloads bounds it.
    let own = held[id, default: 0]
    guard own == 0 || own + bytes <= connectionMax else { return .connectionIsFull }
    guard fits(bytes, id) else {
      if let index = waiting.firstIndex(where: { $0.id == id }) {
        waiting[index].bytes = bytes
      } else {
        waiting.append(Waiter(id: id, bytes: bytes))
      }
      return .mustWait
    }
    return granted(bytes, to: id)
  }

  /// There is room for `bytes` more of `id`.
  private func fits(_ bytes: Int, _ id: ConnectionID) -> Bool {
    let own = held[id, default: 0]
    // A small request of a connection that holds nothing never waits: the limit on connections bounds these.
    if bytes <= smallMax && own == 0 { return true }
    if exceedsExport(bytes, id) { return false }
    // What is parked stays until its connection goes on. The oldest payload must be able to end, whatever else is held; and who is
    // alone must be able to go on.
    let moving = total - parkedTotal
    let isAlone = incomplete.isEmpty && moving == own - parked[id, default: 0]
    if incomplete.first?.id == id || isAlone { return moving + bytes <= totalMax }
    if let image = imageOf[id], let used = heldByImage[image], used + bytes > imageMax { return false }
    return total + bytes <= totalMax - reserve
  }

  /// The clients of its export hold what they may. The oldest of their payloads goes on all the same, so that one at a time always
  /// ends: at most by one maximum payload beyond the limit, or beyond what the other payloads hold that wait for their turn. First
  /// pieces never wait, so these may be more than the limit; all else will be given back.
  private func exceedsExport(_ bytes: Int, _ id: ConnectionID) -> Bool {
    guard let export = exportOf[id], let max = exportMax[export], let used = heldByExport[export], used >= max else {
      return false
    }
    guard let oldest = incomplete.first(where: { exportOf[$0.id] == export }), oldest.id == id else { return true }
    var stuck = 0
    for each in incomplete where each.id != id && exportOf[each.id] == export { stuck += min(each.bytes, reserve) }
    return used + bytes > Swift.max(max, stuck) + reserve
  }

  private mutating func granted(_ bytes: Int, to id: ConnectionID) -> Charge {
    waiting.removeAll { $0.id == id }
    if let index = incomplete.firstIndex(where: { $0.id == id }) { incomplete[index].bytes += bytes }
    chargeExisting(bytes, to: id)
    return .granted
  }

  /// Charges bytes that were received and wait for a worker. Once, until `unpark`. They do not count for image and export: whoever
  /// waits for these keeps its own until it has had its turn.
  package mutating func park(_ bytes: Int, of id: ConnectionID) {
    guard bytes > 0 else { return }
    precondition(parked[id] == nil, "a connection parks its bytes once")
    parked[id] = bytes
    parkedTotal += bytes
    total += bytes
    held[id, default: 0] += bytes
  }

  /// A worker takes them.
  /// - Returns: the connections that may try again now.
  package mutating func unpark(_ id: ConnectionID) -> [ConnectionID] {
    guard let bytes = parked.removeValue(forKey: id) else { return [] }
    parkedTotal -= bytes
    take(bytes, from: id)
    return wake()
  }

  /// Charges bytes that exist already and are bounded otherwise (replies that a socket did not take).
  package mutating func chargeExisting(_ bytes: Int, to id: ConnectionID) {
    guard bytes > 0 else { return }
    total += bytes
    held[id, default: 0] += bytes
    if let image = imageOf[id] { heldByImage[image, default: 0] += bytes }
    if let export = exportOf[id] { heldByExport[export, default: 0] += bytes }
  }

  /// Gives `bytes` of `id` back.
  /// - Returns: the connections that may try again now, oldest first.
  package mutating func release(_ bytes: Int, of id: ConnectionID) -> [ConnectionID] {
    take(bytes, from: id)
    if let image = imageOf[id], let used = heldByImage[image] {
      heldByImage[image] = used == bytes ? nil : used - bytes
    }
    if let export = exportOf[id], let used = heldByExport[export] {
      heldByExport[export] = used == bytes ? nil : used - bytes
    }
    return wake()
  }

  private mutating func take(_ bytes: Int, from id: ConnectionID) {
    guard let own = held[id] else { preconditionFailure("a connection releases what it was charged") }
    precondition(own >= bytes, "a connection releases no more than it was charged")
    held[id] = own == bytes ? nil : own - bytes
    total -= bytes
  }

  /// A large payload of `id` begins to arrive.
  package mutating func payloadBegins(_ id: ConnectionID) { incomplete.append(IncompletePayload(id: id)) }

  /// It is complete, or will never be.
  /// - Returns: the connections that may try again now.
  package mutating func payloadEnds(_ id: ConnectionID) -> [ConnectionID] {
    incomplete.removeAll { $0.id == id }
    return wake()
  }

  /// The connection is gone and holds nothing any more.
  package mutating func forget(_ id: ConnectionID) {
    waiting.removeAll { $0.id == id }
    if held[id] == nil { (imageOf[id], exportOf[id]) = (nil, nil) }
  }

  /// Names everyone who would be granted what it wants if it came first: each of them alone must be able to go on, whatever
  /// becomes of the others.
  private mutating func wake() -> [ConnectionID] {
    guard !waiting.isEmpty else { return [] }
    let woken = waiting.filter { fits($0.bytes, $0.id) }.map(\.id)
    waiting.removeAll { woken.contains($0.id) }
    return woken
  }

  /// Somebody waits for memory.
  package var isContended: Bool { !waiting.isEmpty }

  /// Connections that wait for memory.
  package var waitingCount: Int { waiting.count }

  /// Bytes that `id` holds.
  package func held(by id: ConnectionID) -> Int { held[id, default: 0] }

  /// The connections that hold memory, or the place of an incomplete payload, and do not wait for more.
  package var stallCandidates: [ConnectionID] {
    Set(held.keys).union(incomplete.map(\.id)).subtracting(waiting.map(\.id)).sorted()
  }
}
