// Requests that take long are told of twice: while they still hang, and when they have ended. By a timer that looks at what is in
// flight; the data path only leaves its marks.

import BlockBackend
import EventLoops
import Locking
import Logging
import NBDProtocol
import NBDServerCore
import Syscalls
import SystemPackage

/// One request in flight, of one connection.
struct OperationKey: Hashable, Sendable {
  enum Place: Hashable, Sendable { case job(UInt64), inline(UInt), ring(UInt) }
  let connection: ConnectionID
  let place: Place
}

final class SlowOperations: Sendable {
  /// Lines of one look, of each kind, and operations remembered in all: a disk that hangs may have thousands.
  private static let toldMax = 16
  private static let rememberedMax = 1024

  private struct Told {
    let found: Found
    let line: String
    let metadata: Logger.Metadata
    var beganNanoseconds: Int64 { found.operation.beganNanoseconds }
  }

  private struct State {
    var told: [OperationKey: Told] = [:]
    /// How long those took that have ended since the last look.
    var ended: [OperationKey: Int64] = [:]
    var isLooking = false
  }

  /// Longer is slow; `Int64.max`: nothing is.
  let thresholdNanoseconds: Int64
  private let state = Locked(State())
  /// It takes locks that requests need, and writes to the log: not on the loop.
  private let queue = SlowLane(name: "watch", threadsMax: 1, idleSeconds: Lanes.idleSeconds).queue(runningMax: 1)

  init(thresholdNanoseconds: Int64) { self.thresholdNanoseconds = thresholdNanoseconds }

  /// A request that took longer than the threshold has ended.
  func noteEnd(_ key: OperationKey, takenNanoseconds: Int64) {
    state.withLock { state in
      if state.told[key] != nil { state.ended[key] = takenNanoseconds }
    }
  }

  /// Something has been told of that has not ended.
  var awaitsAnEnd: Bool { state.withLock { !$0.told.isEmpty } }

  /// Has what is new told soon; one look at a time. On the timer.
  func look(at connections: [Connection], _ logger: Logger) {
    guard thresholdNanoseconds < Int64.max, awaitsAnEnd || connections.contains(where: \.hasOperations) else { return }
    let isFirst = state.withLock { !exchange(&$0.isLooking, with: true) }
    guard isFirst else { return }
    queue.submit { [self] in
      tellOfEnds(logger)
      tellOfNew(connections, logger)
      state.withLock { $0.isLooking = false }
    }
  }

  private func tellOfEnds(_ logger: Logger) {
    let now = MonotonicClock.nanoseconds
    let gone = state.withLock { $0.told }.filter { !$0.value.found.isInFlight }
    let ended = state.withLock { state -> [(Told, nanoseconds: Int64)] in
      let ended = gone.map { ($0.value, state.ended[$0.key] ?? now - $0.value.beganNanoseconds) }
      for key in gone.keys { state.told[key] = nil }
      state.ended = state.ended.filter { state.told[$0.key] != nil }
      return ended
    }.sorted { $0.0.beganNanoseconds < $1.0.beganNanoseconds }
    for (told, nanoseconds) in ended.prefix(SlowOperations.toldMax) {
      let seconds = secondsText(nanoseconds)
      logger.notice("\(told.line) ended after \(seconds) s", metadata: told.metadata.with("seconds", seconds))
    }
    if ended.count > SlowOperations.toldMax {
      logger.notice("and \(ended.count - SlowOperations.toldMax) more operations that took long have ended")
    }
  }

  private func tellOfNew(_ connections: [Connection], _ logger: Logger) {
    let known = state.withLock { Set($0.told.keys) }
    let room = SlowOperations.rememberedMax - known.count
    guard room > 0 else { return }
    let before = MonotonicClock.nanoseconds - thresholdNanoseconds
    // What is known is found again, hence no more than this to find something new.
    var left = SlowOperations.rememberedMax + known.count
    var new: [Found] = []
    for connection in connections where left > 0 {
      let found = connection.operations(before: before, countMax: left)
      left -= found.count
      new += found.filter { !known.contains($0.key) }
    }
    new.sort { $0.operation.beganNanoseconds < $1.operation.beganNanoseconds }
    for found in new.prefix(min(room, SlowOperations.toldMax)) {
      let told = Told(found: found, line: found.line, metadata: found.metadata)
      let seconds = secondsText(MonotonicClock.nanoseconds - told.beganNanoseconds)
      let reason = found.waitsFor
      state.withLock { $0.told[found.key] = told }
      logger.warning(
        "\(told.line) has been in flight for \(seconds) s and waits for \(reason)",
        metadata: told.metadata.with("seconds", seconds))
    }
    if new.count > SlowOperations.toldMax {
      let more = "\(new.count - SlowOperations.toldMax) more operations have been in flight for as long"
      logger.warning("\(left > 0 ? "" : "at least ")\(more)")
    }
  }

  /// What was found in flight.
  struct Found {
    let key: OperationKey
    let operation: Replies.Operation
    let connection: Connection
    let transmission: Transmission
    /// Its lock, or its place in the queue for one.
    let token: LockToken?

    /// Asks the image.
    var state: SlowOperation.State {
      if let token, transmission.image.isWaiting(token) { return .lock }
      return operation.request.command == .flush ? .sync : .disk
    }

    /// It has not ended since.
    var isInFlight: Bool {
      switch key.place {
      case .inline(let version): transmission.statistics.inline.read()?.version == version
      case .ring(let version): transmission.statistics.ring.read()?.version == version
      case .job(let id): connection.replies.withLock { $0.isInFlight(id) }
      }
    }

    var waitsFor: String {
      switch state {
      case .lock: "another operation on its range"
      case .disk: "the disk"
      case .sync: "a sync"
      }
    }

    var line: String {
      let request = operation.request
      let range = request.command.rule.hasRange ? " \(transmission.clientOffset(of: request))+\(request.length)" : ""
      return "\(request.command.specName)\(range) of export \"\(transmission.session.export.name)\""
    }

    var metadata: Logger.Metadata { connection.metadata(operation.request, transmission) }

    func status(now: Int64) -> SlowOperation? {
      let request = operation.request
      guard let command = CountedCommand(request.command) else { return nil }
      return SlowOperation(
        connection: connection.id.rawValue, export: transmission.session.export.name, command: command,
        offset: transmission.clientOffset(of: request), length: UInt64(request.length),
        ageSeconds: Double(now - operation.beganNanoseconds) / 1e9, state: state)
    }
  }
}

/// Seconds with three decimals.
private func secondsText(_ nanoseconds: Int64) -> String { durationText(seconds: Double(nanoseconds) / 1e9) }

extension Logger.Metadata {
  fileprivate func with(_ key: String, _ value: String) -> Logger.Metadata {
    var copy = self
    copy[key] = "\(value)"
    return copy
  }
}

extension Connection {
  /// Something is in flight that may turn out to be slow.
  fileprivate var hasOperations: Bool {
    guard let transmission else { return false }
    return transmission.statistics.inline.isSet || replies.withLock { $0.inFlightCount > 0 }
  }

  /// What is in flight since before `nanoseconds`, in no order; at most `countMax`. Any thread.
  func operations(before nanoseconds: Int64, countMax: Int) -> [SlowOperations.Found] {
    guard let transmission else { return [] }
    var found: [SlowOperations.Found] = []
    for (mark, place) in [
      (transmission.statistics.inline.read(), OperationKey.Place.inline),
      (transmission.statistics.ring.read(), OperationKey.Place.ring),
    ] {
      guard let mark, mark.operation.beganNanoseconds < nanoseconds else { continue }
      found.append(
        SlowOperations.Found(
          key: OperationKey(connection: id, place: place(mark.version)), operation: mark.operation, connection: self,
          transmission: transmission, token: nil))
    }
    for (job, operation, token) in replies.withLock({ $0.operations(before: nanoseconds, countMax: countMax) }) {
      found.append(
        SlowOperations.Found(
          key: OperationKey(connection: id, place: .job(job)), operation: operation, connection: self,
          transmission: transmission, token: token))
    }
    return found
  }
}

extension Job {
  /// Counts the request. Just before its reply can be seen.
  borrowing func account(_ error: NBDError?) {
    guard let command = CountedCommand(request.command) else { return }
    let server = transmission.connection.server
    let taken = MonotonicClock.nanoseconds - beganNanoseconds
    if let error {
      transmission.statistics.add(command, requests: 1, errors: 1, bytes: 0)
      transmission.exportStatistics.note(RequestErrorKey(command: command, error: error))
    } else {
      transmission.statistics.add(command, requests: 1, bytes: Int(request.length))
    }
    server.statistics.shard(of: transmission.connection.id.rawValue).add(command, nanoseconds: taken)
    if taken >= server.slowOperations.thresholdNanoseconds {
      server.slowOperations.noteEnd(
        OperationKey(connection: transmission.connection.id, place: .job(id)), takenNanoseconds: taken)
    }
  }
}
