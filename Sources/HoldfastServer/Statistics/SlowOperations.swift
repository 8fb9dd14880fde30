// Requests that take long are told of twice: while they still hang, and when they have ended. By a timer that looks at what is in
// flight; the data path only leaves its marks.

import BlockBackend
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
  /// Operations told of in one look, and remembered in all: a disk that hangs may have thousands.
  private static let toldMax = 16
  private static let rememberedMax = 1024

  private struct Told {
    let line: String
    let metadata: Logger.Metadata
    let beganNanoseconds: Int64
  }

  private struct State {
    var told: [OperationKey: Told] = [:]
    /// How long those took that have ended since the last look.
    var ended: [OperationKey: Int64] = [:]
  }

  /// Longer is slow; `Int64.max`: nothing is.
  let thresholdNanoseconds: Int64
  private let state = Locked(State())

  init(thresholdNanoseconds: Int64) { self.thresholdNanoseconds = thresholdNanoseconds }

  /// A request that took longer than the threshold has ended.
  func noteEnd(_ key: OperationKey, takenNanoseconds: Int64) {
    state.withLock { state in
      if state.told[key] != nil { state.ended[key] = takenNanoseconds }
    }
  }

  /// Something has been told of that has not ended.
  var awaitsAnEnd: Bool { state.withLock { !$0.told.isEmpty } }

  /// Tells what is new. On the timer.
  func look(at connections: [Connection], _ logger: Logger) {
    guard thresholdNanoseconds < Int64.max else { return }
    let now = MonotonicClock.nanoseconds
    var slow: [OperationKey: Found] = [:]
    for connection in connections {
      for found in connection.operations(before: now - thresholdNanoseconds, countMax: SlowOperations.rememberedMax) {
        slow[found.key] = found
      }
    }
    tellOfEnds(slow, now, logger)
    tellOfNew(slow, now, logger)
  }

  private func tellOfEnds(_ slow: [OperationKey: Found], _ now: Int64, _ logger: Logger) {
    let ended = state.withLock { state -> [(Told, nanoseconds: Int64)] in
      let gone = state.told.filter { slow[$0.key] == nil }
      let ended = gone.map { ($0.value, state.ended[$0.key] ?? now - $0.value.beganNanoseconds) }
      for key in gone.keys { state.told[key] = nil }
      state.ended = state.ended.filter { state.told[$0.key] != nil }
      return ended
    }
    for (told, nanoseconds) in ended.sorted(by: { $0.0.beganNanoseconds < $1.0.beganNanoseconds }) {
      let seconds = secondsText(nanoseconds)
      logger.notice("\(told.line) ended after \(seconds) s", metadata: told.metadata.with("seconds", seconds))
    }
  }

  private func tellOfNew(_ slow: [OperationKey: Found], _ now: Int64, _ logger: Logger) {
    let known = state.withLock { Set($0.told.keys) }
    let new = slow.values.filter { !known.contains($0.key) }
      .sorted { $0.operation.beganNanoseconds < $1.operation.beganNanoseconds }
    for found in new.prefix(SlowOperations.toldMax) {
      let told = Told(
        line: found.line, metadata: found.metadata, beganNanoseconds: found.operation.beganNanoseconds)
      let isKept = state.withLock { state in
        guard state.told.count < SlowOperations.rememberedMax else { return false }
        state.told[found.key] = told
        return true
      }
      guard isKept else { return }
      let seconds = secondsText(now - told.beganNanoseconds)
      logger.warning(
        "\(told.line) has been in flight for \(seconds) s and waits for \(found.waitsFor)",
        metadata: told.metadata.with("seconds", seconds))
    }
    if new.count > SlowOperations.toldMax {
      logger.warning("\(new.count - SlowOperations.toldMax) more operations have been in flight for as long")
    }
  }

  /// What was found in flight.
  struct Found {
    let key: OperationKey
    let operation: Replies.Operation
    let connection: Connection
    let transmission: Transmission
    let state: SlowOperation.State

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
          transmission: transmission, state: .disk))
    }
    for (job, operation, token) in replies.withLock({ $0.operations(before: nanoseconds, countMax: countMax) }) {
      let isWaiting = token.map { transmission.image.isWaiting($0) } ?? false
      found.append(
        SlowOperations.Found(
          key: OperationKey(connection: id, place: .job(job)), operation: operation, connection: self,
          transmission: transmission,
          state: isWaiting ? .lock : operation.request.command == .flush ? .sync : .disk))
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
