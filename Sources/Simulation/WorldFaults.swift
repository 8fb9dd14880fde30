// What goes wrong from outside: resets, half-closes, kills, power cuts; and the verdict at the end.

import BlockBackend
import NBDProtocol
import SystemPackage

extension World {
  // MARK: Faults

  func injectFault() -> Bool {
    let rates = scenario.rates
    let draw = dice.below(100_000)
    // Once nothing new is sent, the rest shall come to its end.
    guard draw < 5000, !isClosing else { return false }
    var limit = rates.reset
    if draw < limit {
      let able = clients.filter { $0.connection != nil }
      if !able.isEmpty { reset(dice.pick(able)) }
      return true
    }
    limit += rates.halfClose
    if draw < limit {
      let able = clients.filter { $0.phase == .ready }
      if !able.isEmpty {
        let client = dice.pick(able)
        note("client \(client.number) half-closes")
        report.faults += 1
        client.disconnect(dice.chance(500))
      }
      return true
    }
    limit += rates.movedMap
    if draw < limit {
      running.image.disk.moveMap(&dice)
      return true
    }
    limit += rates.kill
    if draw < limit {
      crash(losingPower: false)
      return true
    }
    limit += rates.powerCut
    if draw < limit {
      crash(losingPower: true)
      return true
    }
    return false
  }

  /// The process ends between two events; with it the power, perhaps.
  func crash(losingPower: Bool) {
    note(losingPower ? "power is cut" : "the server is killed")
    let image = running.image
    for number in image.order {
      guard let job = image.jobs[number], case .calling(let current) = job.phase else { continue }
      // A call that the kernel has begun ends somewhere.
      let bytes = dice.below(Int(current.call.length - current.done) + 1)
      if bytes > 0 { image.fire(job, .progresses(UInt64(bytes)), &dice) }
    }
    var disk = image.disk
    let now = tick()
    for client in clients where client.connection != nil { client.leave() }
    if losingPower {
      report.powerCuts += 1
      disk.cutPower(&dice)
      report.durableChecked += judge(endingWith: disk.seen, at: now)
    } else {
      report.kills += 1
      if case .running(_, let versions) = image.sync, dice.chance(500) { disk.completeSync(versions) }
      chronicle.fence(records, at: now)
    }
    causes = [:]
    syncFailedAt = nil
    server = SimulatedServer(world: self, disk: disk, guards: guards)
    lockChangesChecked = 0
  }

  // MARK: The verdict

  /// - Returns: how many mutations were durable.
  func judge(endingWith content: [UInt8], at now: UInt64) -> Int {
    do throws(Finding) {
      return try chronicle.endAge(&records, content: content, losesPower: true, at: now)
    } catch {
      violate(error.rule, error.what)
      return 0
    }
  }

  /// Everything has come to rest.
  func conclude() {
    let server = running
    if unanswered > 0 { return violate("progress", "\(unanswered) requests are never answered") }
    if !server.image.jobs.isEmpty { return violate("progress", "\(server.image.jobs.count) requests never end") }
    if !server.connections.isEmpty { return violate("progress", "\(server.connections.count) connections never close") }
    if server.budget.total != 0 { return violate("limits", "\(server.budget.total) bytes are never given back (I10)") }
    if server.image.core.heldCount != 0 { return violate("locks", "a lock is never given back") }
    let now = tick()
    do throws(Finding) {
      try chronicle.conclude(&records, content: server.image.disk.seen, at: now)
    } catch {
      return violate(error.rule, error.what)
    }
    guard scenario.rates.powerCut > 0 else { return }
    var disk = server.image.disk
    disk.cutPower(&dice)
    report.powerCuts += 1
    report.durableChecked += judge(endingWith: disk.seen, at: tick())
  }
}
