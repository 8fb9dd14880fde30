// Why a request may be answered with an error: a call of its own failed with it, or the sync that it had to wait for. What went
// wrong beneath others is no excuse.

import BlockBackend
import NBDProtocol
import NBDServerCore
import SystemPackage

/// What went wrong beneath one request.
struct Causes {
  /// What its client may be told.
  private(set) var errors: Set<NBDError> = []
  /// How often a call was told to try again, by its offset.
  private var attempts: [UInt64: Int] = [:]
  /// The attempt that failed is repeated so often (`PieceProgress`).
  private static let repetitions = 10

  /// A call failed.
  mutating func add(_ errno: Errno, in call: FileCall) {
    switch (call.kind, errno) {
    // The slow lane looks again.
    case (.readCached, _): break
    case (_, .interrupted): break
    case (.read, .resourceTemporarilyUnavailable), (.write, .resourceTemporarilyUnavailable),
      (.punchHole, .resourceTemporarilyUnavailable), (.zeroRange, .resourceTemporarilyUnavailable),
      (.allocate, .resourceTemporarilyUnavailable), (.discard, .resourceTemporarilyUnavailable):
      attempts[call.offset, default: 0] += 1
      if attempts[call.offset, default: 0] > Causes.repetitions { errors.insert(.io) }
    // Another kind of call does it; a seek that is not known finds data.
    case (.punchHole, .notSupported), (.zeroRange, .notSupported), (.allocate, .notSupported),
      (.discard, .notSupported),
      (.seekData, .invalidArgument), (.seekHole, _):
      break
    default:
      let error = NBDError(errno)
      errors.insert(error == .notSupported ? .invalid : error)
    }
  }

  /// A call did nothing where it had to do something.
  mutating func addNothingDone() { errors.insert(.io) }
}

extension World {
  /// A call of this job failed.
  func blame(_ errno: Errno, _ call: FileCall, of job: SimulatedJob) {
    if let index = index(of: job) { causes[index, default: Causes()].add(errno, in: call) }
  }

  func blameNothingDone(_ job: SimulatedJob) {
    if let index = index(of: job) { causes[index, default: Causes()].addNothingDone() }
  }

  /// The request that a job is for; nil when its client is gone.
  private func index(of job: SimulatedJob) -> Int? {
    clients.first { $0.connection?.id == job.connection }?.outstanding[job.request.cookie]
  }

  func isHonest(_ error: NBDError, _ index: Int) -> Bool {
    let record = records[index]
    if error == .notSupported { return record.command == .writeZeroes && record.flags.contains(.fastZero) }
    if causes[index]?.errors.contains(error) ?? false { return true }
    return error == .io && record.needsSync && syncFailedAt != nil
  }
}

extension Record {
  /// It is not answered before a sync has succeeded.
  var needsSync: Bool { command == .flush || (flags.contains(.fua) && command.rule.changesData) }
}
