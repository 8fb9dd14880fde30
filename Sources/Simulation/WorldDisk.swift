// What the disk does to the calls of requests: as the seed draws it, unless a fault rule says otherwise.

import BlockBackend
import Faults
import SystemPackage

extension World {
  func perform(_ kind: EventKind, _ job: SimulatedJob) {
    switch kind {
    case .start: running.image.start(job)
    case .resume: running.image.goOn(job)
    default: goOn(job)
    }
    guard case .calling = job.phase, dice.chance(scenario.rates.hang) else { return }
    report.faults += 1
    job.hangsUntil = report.steps + dice.within(20...2000)
    note("job \(job.number) hangs until \(job.hangsUntil)")
  }

  private func goOn(_ job: SimulatedJob) {
    guard let event = fate(of: job), case .calling(let current) = job.phase else { return }
    note("job \(job.number) \(current.call.kind) \(current.call.offset)+\(current.call.length): \(event)")
    switch event {
    case .completes: break
    case .progresses, .endsShort, .pretends: report.faults += 1
    case .fails(let errno, _):
      report.faults += 1
      blame(errno, current.call, of: job)
    }
    running.image.fire(job, event, &dice)
  }

  /// How the present call of `job` goes on. Nil: later.
  private func fate(of job: SimulatedJob) -> CallEvent? {
    guard case .calling(var current) = job.phase else { return nil }
    let ruling = current.ruling ?? running.injection.answer(current.call)
    // A rule speaks once of each call.
    current.ruling = .perform
    defer { job.phase = .calling(current) }
    switch ruling {
    case .perform: return CallFate.draw(current, scenario, &dice)
    case .delay(let time, let next):
      current.ruling = next
      job.hangsUntil = report.steps + World.steps(of: time)
      report.faults += 1
      note("job \(job.number) hangs until \(job.hangsUntil) by rule")
      return nil
    case .performOnly(let bytes):
      if bytes == 0 { blameNothingDone(job) }
      return .endsShort(bytes)
    case .pretend(let result):
      // Nothing done where something had to be is an error to the client.
      if result == 0 { blameNothingDone(job) }
      return .pretends(result)
    case .fail(let errno): return .fails(errno, after: 0)
    }
  }

  /// Time has no length here; a long delay lets more happen than a short one.
  private static func steps(of time: Duration) -> Int {
    let microseconds = time.components.seconds * 1_000_000 + time.components.attoseconds / 1_000_000_000_000
    return Int(min(max(microseconds / 100, 1), 2000))
  }

  func goOnWithSync() {
    let image = running.image
    switch image.sync {
    case .none: return
    case .due: image.beginSync()
    case .running:
      let server = running
      let ruling = server.syncRuling ?? server.injection.answer(FileCall(kind: .sync, offset: 0, length: 0))
      server.syncRuling = nil
      switch ruling {
      case .perform, .performOnly: endSync(dice.chance(scenario.rates.failedSync) ? .ioError : nil)
      case .delay(let time, let next):
        server.syncRuling = next
        server.syncHangsUntil = report.steps + World.steps(of: time)
        report.faults += 1
        note("the sync hangs until \(server.syncHangsUntil) by rule")
      case .pretend:
        report.faults += 1
        note("the sync is lost by rule")
        image.endSync(nil, isLost: true, &dice)
      // It is made again.
      case .fail(.interrupted): report.faults += 1
      case .fail(let errno): endSync(errno)
      }
    }
  }

  private func endSync(_ errno: Errno?) {
    if errno != nil {
      report.faults += 1
      report.failedSyncs += 1
      note("the sync fails")
      let now = tick()
      if syncFailedAt == nil { syncFailedAt = now }
      chronicle.syncFailures.append(now)
    }
    running.image.endSync(errno, &dice)
  }
}
