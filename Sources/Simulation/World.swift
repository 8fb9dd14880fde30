// One seed: everything that exists, and the one place where the next event is picked.

import BlockBackend
import Faults
import NBDProtocol
import NBDServerCore
import Oracle
import SystemPackage

/// What may happen next.
enum EventKind: Int, CaseIterable {
  case think, connect, toServer, toClient, readable, serve, send, writable, start, call, resume, sync, hangUp
}

struct Event {
  var kind: EventKind
  /// Client, connection or job.
  var subject: Int
}

/// What was found to be wrong.
package struct Finding: Error, Sendable, Equatable {
  /// Which rule, in a word.
  package var rule: String
  package var what: String
}

/// What a seed came to.
package struct SeedReport: Sendable, Equatable {
  package var seed: UInt64
  package var finding: Finding?
  package var requests = 0
  package var answered = 0
  package var clients = 0
  package var steps = 0
  package var faults = 0
  package var powerCuts = 0
  package var kills = 0
  package var resets = 0
  package var failedSyncs = 0
  /// Mutations that a FUA or FLUSH had made durable when power was cut, over all cuts.
  package var durableChecked = 0
  /// Of everything that happened, in order: equal for equal runs.
  package var digest: UInt64 = 0xcbf2_9ce4_8422_2325
}

final class World {
  let scenario: Scenario
  let guards: GuardSwitches
  let faults: [FaultRule]
  let pool: PiecePool
  var dice: Dice
  var server: SimulatedServer?
  var clients: [SimulatedClient] = []
  var report: SeedReport
  var finding: Finding? { report.finding }
  var records: [Record] = []
  var chronicle: Chronicle
  var clock: UInt64 = 0
  var nextConnection = 0
  var events: [Event] = []
  var hanging: [Event] = []
  var lockChangesChecked = 0
  private let trace: ((String) -> Void)?
  /// Nothing new is sent.
  var isClosing = false
  /// What went wrong beneath requests, by their places among the records.
  var causes: [Int: Causes] = [:]
  /// A sync has failed in this life of the server, at this moment: none may succeed any more.
  var syncFailedAt: UInt64?

  init(seed: UInt64, options: SimulationOptions, pool: PiecePool, trace: ((String) -> Void)?) {
    scenario = Scenario(seed: seed, requests: options.requestsMin, mustCutPower: options.cutsPower)
    guards = options.guards
    faults = options.faults
    self.pool = pool
    self.trace = trace
    dice = Dice(seed: seed)
    report = SeedReport(seed: seed)
    chronicle = Chronicle(blocks: scenario.blocks)
    let disk = SimulatedDisk(
      sectorCount: scenario.blocks, sectorBytes: Scenario.blockBytes, keepsVersions: scenario.rates.powerCut > 0)
    server = SimulatedServer(world: self, disk: disk, guards: guards)
    clients = (0..<scenario.clients).map { SimulatedClient(number: $0, world: self) }
    report.clients = scenario.clients
  }

  var running: SimulatedServer {
    guard let server else { preconditionFailure("a world has a server") }
    return server
  }

  func tick() -> UInt64 {
    clock += 1
    return clock
  }

  func violate(_ rule: String, _ what: String) {
    if report.finding == nil { report.finding = Finding(rule: rule, what: what) }
    note("violation of \(rule): \(what)")
  }

  func note(_ text: @autoclosure () -> String) {
    if let trace { trace("\(report.steps) \(text())") }
  }

  func mix(_ value: Int) {
    report.digest = (report.digest ^ UInt64(truncatingIfNeeded: value)) &* 0x100_0000_01b3
  }

  // MARK: The loop

  func run() -> SeedReport {
    let stepsMax = 400_000
    while report.finding == nil {
      report.steps += 1
      if report.steps > stepsMax {
        violate("progress", "after \(stepsMax) steps \(unanswered) requests are not answered")
        break
      }
      if injectFault() { continue }
      collectEvents()
      guard !events.isEmpty else { break }
      perform(pickEvent())
      checkLocks()
    }
    if report.finding == nil { conclude() }
    for index in records.indices { mix(Int(records[index].completed ?? 0)) }
    return report
  }

  var unanswered: Int { clients.reduce(0) { $0 + $1.outstanding.count } }

  func checkLocks() {
    let image = running.image
    guard image.lockChanges != lockChangesChecked else { return }
    lockChangesChecked = image.lockChanges
    image.checkInvariants()
  }

  func collectEvents() {
    events.removeAll(keepingCapacity: true)
    hanging.removeAll(keepingCapacity: true)
    if records.count >= scenario.requests && !isClosing {
      isClosing = true
      note("no further requests")
    }
    for client in clients {
      guard let connection = client.connection else {
        if client.phase != .gone || !isClosing { events.append(Event(kind: .connect, subject: client.number)) }
        continue
      }
      if client.phase == .ready && (!isClosing || client.outstanding.isEmpty)
        && client.outstanding.count < scenario.depthMax
      {
        events.append(Event(kind: .think, subject: client.number))
      }
      if connection.toServer.count > 0 || (connection.toServer.isEnded && !connection.arrived.isEnded) {
        events.append(Event(kind: .toServer, subject: client.number))
      }
      if connection.toClient.count > 0 || connection.toClient.isEnded {
        events.append(Event(kind: .toClient, subject: client.number))
      }
    }
    let server = running
    for id in server.connections.keys.sorted() {
      guard let connection = server.connections[id] else { continue }
      if connection.mayServe { events.append(Event(kind: .serve, subject: id)) }
      if connection.mayBecomeReadable { events.append(Event(kind: .readable, subject: id)) }
      if connection.isSending { events.append(Event(kind: .send, subject: id)) }
      if connection.mayBecomeWritable { events.append(Event(kind: .writable, subject: id)) }
      if connection.mayHangUp { events.append(Event(kind: .hangUp, subject: id)) }
    }
    for number in server.image.order {
      guard let job = server.image.jobs[number] else { continue }
      switch job.phase {
      case .runnable: events.append(Event(kind: .start, subject: number))
      case .calling:
        let event = Event(kind: .call, subject: number)
        if job.hangsUntil > report.steps { hanging.append(event) } else { events.append(event) }
      case .paused: events.append(Event(kind: .resume, subject: number))
      case .waiting, .syncing, .ended: break
      }
    }
    switch server.image.sync {
    case .none: break
    case .due: events.append(Event(kind: .sync, subject: 0))
    case .running:
      let event = Event(kind: .sync, subject: 0)
      if server.syncHangsUntil > report.steps { hanging.append(event) } else { events.append(event) }
    }
    // Nothing else is left to wait for.
    if events.isEmpty { swap(&events, &hanging) }
  }

  func pickEvent() -> Event {
    var total = 0
    for event in events { total += scenario.eagerness[event.kind.rawValue] }
    var pick = dice.below(total)
    for event in events {
      pick -= scenario.eagerness[event.kind.rawValue]
      if pick < 0 { return event }
    }
    preconditionFailure("the pick is below the sum")
  }

  func perform(_ event: Event) {
    mix(event.kind.rawValue << 20 | event.subject)
    note("\(event.kind) \(event.subject)")
    let server = running
    switch event.kind {
    case .think: think(clients[event.subject])
    case .connect: connect(clients[event.subject])
    case .toServer: deliverToServer(clients[event.subject])
    case .toClient: deliverToClient(clients[event.subject])
    case .readable: server.connections[event.subject]?.becomeReadable()
    case .serve: server.connections[event.subject]?.serve()
    case .send: server.connections[event.subject]?.send()
    case .writable: server.connections[event.subject]?.becomeWritable()
    case .hangUp: server.connections[event.subject]?.hangUp()
    case .start, .resume, .call: if let job = server.image.jobs[event.subject] { perform(event.kind, job) }
    case .sync: goOnWithSync()
    }
  }

  // MARK: The network

  func connect(_ client: SimulatedClient) {
    nextConnection += 1
    let connection = running.accept(client: client.number, id: nextConnection)
    note("client \(client.number) connects as \(nextConnection)")
    client.connect(connection)
  }

  func deliverToServer(_ client: SimulatedClient) {
    guard let connection = client.connection else { return }
    guard connection.toServer.count > 0 else {
      connection.arrived.isEnded = true
      return
    }
    let count = part(of: connection.toServer.count)
    mix(count)
    connection.arrived.append(connection.toServer.take(count))
  }

  func deliverToClient(_ client: SimulatedClient) {
    guard let connection = client.connection else { return }
    guard connection.toClient.count > 0 else {
      if client.phase == .leaving && !client.outstanding.isEmpty && connection.replies.life == .finishing {
        violate("reply", "client \(client.number) said goodbye and \(client.outstanding.count) requests got no answer")
      }
      note("client \(client.number) sees the end of \(connection.id)")
      connection.hasHangUp = true
      return client.leave()
    }
    let count = part(of: connection.toClient.count)
    mix(count)
    client.receive(connection.toClient.take(count))
  }

  func part(of count: Int) -> Int { dice.chance(600) ? count : dice.within(1...count) }

  /// The client, or the network, cuts the connection.
  func reset(_ client: SimulatedClient) {
    guard let connection = client.connection else { return }
    report.resets += 1
    note("connection \(connection.id) is reset")
    connection.hasHangUp = true
    connection.toServer.removeAll()
    connection.toClient.removeAll()
    // What has arrived may still be read, or be lost with the connection.
    if dice.chance(500) { connection.arrived.removeAll() }
    client.leave()
  }

  // MARK: Requests

  func think(_ client: SimulatedClient) {
    guard !isClosing else {
      note("client \(client.number) leaves")
      return client.disconnect(dice.chance(500))
    }
    let choice = RequestChoice(scenario, client, &dice)
    var record = choice.record
    record.id = UInt64(records.count + 1)
    record.connection = client.connection?.id ?? 0
    record.invoked = tick()
    records.append(record)
    report.requests += 1
    mix(Int(record.offset) << 8 | Int(record.command.rawValue))
    note(
      "client \(client.number) sends \(record.command) \(record.id) \(record.flags.rawValue) \(record.offset)+\(record.length)"
    )
    client.send(
      record, index: records.count - 1, payload: choice.payload(id: record.id), type: choice.rawType,
      rawFlags: choice.rawFlags)
  }

  /// A complete reply has reached its client.
  func answered(_ index: Int, by client: SimulatedClient) {
    records[index].completed = tick()
    report.answered += 1
    let record = records[index]
    note("client \(client.number) has the answer to \(record.id): \(record.error.map { "\($0)" } ?? "success")")
    if record.error != record.refusal {
      if let refusal = record.refusal {
        return violate(
          "protocol",
          "\(record.command) \(record.id) had to be refused with \(refusal) and got \(String(describing: record.error)) (I9)"
        )
      }
      if let error = record.error, !isHonest(error, index) {
        violate("errors", "\(record.command) \(record.id) failed with \(error) without a cause")
      }
    }
    causes[index] = nil
    if record.succeeded, record.needsSync, let failedAt = syncFailedAt, record.invoked > failedAt {
      violate("latch", "\(record.command) \(record.id) succeeded after a sync had failed (I7)")
    }
  }

  /// The server knows that the connection is gone: nothing of it begins any more, and what runs keeps its locks (I6).
  func died(_ connection: Int, _ reason: String) {
    guard chronicle.deaths[connection] == nil else { return }
    chronicle.deaths[connection] = tick()
    note("connection \(connection) ends: \(reason)")
  }
}
