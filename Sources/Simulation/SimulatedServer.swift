// One life of the server process: its image, its budget and its connections. Killed with everything in it.

import BlockBackend
import Faults
import NBDProtocol
import NBDServerCore

final class SimulatedServer: ImageOwner {
  let scenario: Scenario
  let limits: Limits
  let pool: PiecePool
  let exports: ExportTable
  var budget: ByteBudget
  var injection: FaultInjection
  /// What the fault rules say to the sync that runs, and how long it hangs.
  var syncRuling: FileCallAnswer?
  var syncHangsUntil = 0
  unowned let world: World
  private(set) var connections: [Int: SimulatedConnection] = [:]

  /// Set once, at the end of `init`: the image knows its owner.
  private var servedImage: SimulatedImage?
  var image: SimulatedImage {
    guard let servedImage else { preconditionFailure("a server serves an image") }
    return servedImage
  }

  init(world: World, disk: SimulatedDisk, guards: GuardSwitches) {
    self.world = world
    scenario = world.scenario
    limits = scenario.limits
    pool = world.pool
    exports = ExportTable([scenario.export])
    injection = FaultInjection(world.faults)
    budget = ByteBudget(
      limits: limits, payloadBytesMax: scenario.blocksMax * Scenario.blockBytes, guards: guards)
    servedImage = SimulatedImage(
      disk: disk, guards: guards, shape: scenario.shape(guards), refused: scenario.refused, pool: pool, owner: self)
  }

  var dice: Dice {
    get { world.dice }
    set { world.dice = newValue }
  }

  /// How many bytes one `send` takes at most.
  func sendBytes() -> Int { dice.chance(700) ? 1 << 20 : dice.within(1...64) }

  func accept(client: Int, id: Int) -> SimulatedConnection {
    let connection = SimulatedConnection(id: id, client: client, server: self)
    connections[id] = connection
    return connection
  }

  // MARK: For the image

  func isAlive(_ connection: Int) -> Bool { connections[connection]?.isAlive ?? false }

  func ended(_ job: SimulatedJob, _ outcome: SimulatedJob.Outcome) {
    guard let connection = connections[job.connection] else {
      preconditionFailure("a connection lives until its last request has ended")
    }
    connection.ended(job, outcome)
  }

  // MARK: For connections

  func wake(_ ids: [ConnectionID]) {
    for id in ids { connections[Int(id.rawValue)]?.wake() }
  }

  func granted(_ bytes: Int, to connection: SimulatedConnection) {
    let held = connection.heldBytes
    if held > limits.connectionBytesMax && held != bytes {
      world.violate("limits", "connection \(connection.id) holds \(held) bytes, more than one may (I10)")
    }
    let isSmall = held == bytes && bytes <= limits.smallChargeBytesMax
    if budget.total > limits.totalBytesMax && !isSmall {
      world.violate("limits", "all connections hold \(budget.total) bytes, more than they may (I10)")
    }
  }

  func died(_ connection: SimulatedConnection, _ reason: String) { world.died(connection.id, reason) }

  func closed(_ connection: SimulatedConnection) {
    connections[connection.id] = nil
    world.died(connection.id, "closed")
  }

  func wireError(_ error: BackendError, of request: Request, inSync: Bool) -> NBDError {
    if inSync { return .io }
    // NBD_ENOTSUP is the answer to FAST_ZERO and to nothing else (Error values).
    let mapped = NBDError(error.errno)
    return mapped == .notSupported && !request.flags.contains(.fastZero) ? .invalid : mapped
  }

  func header(of request: Request) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendRequest(
      flags: request.flags.rawValue, type: request.command.rawValue, cookie: request.cookie, offset: request.offset,
      length: request.length)
    return bytes
  }
}

extension [UInt8] {
  mutating func appendNumber(_ value: some FixedWidthInteger) {
    var shift = value.bitWidth - 8
    while shift >= 0 {
      append(UInt8(truncatingIfNeeded: value >> shift))
      shift -= 8
    }
  }

  mutating func appendRequest(flags: UInt16, type: UInt16, cookie: UInt64, offset: UInt64, length: UInt32) {
    appendNumber(0x2560_9513 as UInt32)
    appendNumber(flags)
    appendNumber(type)
    appendNumber(cookie)
    appendNumber(offset)
    appendNumber(length)
  }
}
