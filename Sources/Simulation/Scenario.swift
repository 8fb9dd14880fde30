// What one seed is about: its clients, its image, and how often which fault happens. Some faults have weight zero.

import BlockBackend
import NBDProtocol
import NBDServerCore
import SystemPackage

/// Out of a thousand, where it may happen.
package struct FaultRates: Sendable, Equatable {
  package var shortCount = 0
  package var partialEffect = 0
  package var interrupted = 0
  package var tryAgain = 0
  package var ioError = 0
  package var noSpace = 0
  package var failedSync = 0
  /// A call that hangs for long.
  package var hang = 0
  /// Of steps, out of a hundred thousand.
  package var reset = 0
  package var halfClose = 0
  package var kill = 0
  package var powerCut = 0
  package var movedMap = 0

  var isNone: Bool { self == FaultRates() }
}

struct Scenario {
  let seed: UInt64
  var clients: Int
  /// Requests to be sent, all clients together.
  var requests: Int
  /// Blocks of the image, 512 bytes each.
  var blocks: Int
  var blocksMax: Int
  /// Requests of one client under way.
  var depthMax: Int
  var rates = FaultRates()
  var refused: Set<FileCall.Kind> = []
  var capabilities: Capabilities = .memory
  /// Short requests run on the worker of their connection.
  var isLocal: Bool
  var inlineEffectBytesMax: Int
  var batchBytes: Int
  /// What a socket holds towards the client.
  var socketBytes: Int
  var transferBytesMax: UInt64
  var trimUnitBytes: UInt64
  var sliceBytes: UInt64
  var blockBytesMin: UInt32
  var holeProbeBytesMin: Int
  /// READs that are not in memory as a whole, out of a thousand.
  var coldReads: Int
  /// Requests that a client may not send, out of a thousand.
  var badRequests: Int
  var fuaRate: Int
  var flushRate: Int
  /// How eager each kind of event is to come first.
  var eagerness: [Int]
  /// Blocks to which half of all requests go.
  var hotBlocks: Int

  static let blockBytes = 512

  init(seed: UInt64, requests: Int, mustCutPower: Bool) {
    self.seed = seed
    self.requests = requests
    var dice = Dice(seed: seed ^ 0x5ce_4a210)
    clients = dice.within(3...5)
    // The payloads of some seeds do not fit the buffer of a worker.
    let isLarge = dice.chance(15)
    blocks = isLarge ? 1200 : dice.pick([6, 12, 24, 48, 64])
    blocksMax = isLarge ? 1100 : min(blocks, dice.pick([2, 4, 8, 16]))
    hotBlocks = min(blocks, dice.pick([2, 4, 12]))
    depthMax = dice.pick([1, 2, 4, 8, 16])
    isLocal = !dice.chance(250)
    inlineEffectBytesMax = dice.pick([0, 1024, 65_536])
    batchBytes = dice.pick([1, 100, 4096, 65_536])
    socketBytes = dice.pick([64, 1000, 8192, 100_000])
    transferBytesMax = dice.pick([512, 1024, 3000, 1 << 30])
    trimUnitBytes = dice.pick([512, 512, 1024, 2048])
    sliceBytes = dice.pick([512, 1024, 1 << 20])
    if isLarge {
      // A system call for each block of these would be most of all events.
      transferBytesMax = max(transferBytesMax, 100_000)
      sliceBytes = 1 << 20
      socketBytes = 100_000
    }
    blockBytesMin = dice.pick([1, 512])
    holeProbeBytesMin = dice.pick([1024, 2048, 1 << 20])
    coldReads = dice.chance(500) ? dice.within(0...500) : 0
    badRequests = dice.chance(500) ? dice.within(1...60) : 0
    fuaRate = dice.pick([0, 100, 400])
    flushRate = dice.pick([20, 60, 150])
    eagerness = (0..<EventKind.allCases.count).map { _ in [1, 2, 6, 20][dice.below(4)] }
    if dice.chance(200) { capabilities.remove(.trim) }
    if dice.chance(200) { capabilities.remove(.fastZero) }
    for kind: FileCall.Kind in [.punchHole, .zeroRange, .allocate, .seekData] where dice.chance(150) {
      refused.insert(kind)
    }
    drawRates(&dice, mustCutPower)
  }

  private mutating func drawRates(_ dice: inout Dice, _ mustCutPower: Bool) {
    func rate(_ dice: inout Dice, _ most: Int) -> Int { dice.chance(500) ? dice.within(1...most) : 0 }
    repeat {
      rates.shortCount = rate(&dice, 300)
      rates.partialEffect = rate(&dice, 300)
      rates.interrupted = rate(&dice, 100)
      rates.tryAgain = rate(&dice, 100)
      rates.ioError = rate(&dice, 40)
      rates.noSpace = rate(&dice, 40)
      rates.failedSync = rate(&dice, 60)
      rates.hang = rate(&dice, 60)
      rates.reset = rate(&dice, 400)
      rates.halfClose = rate(&dice, 100)
      rates.kill = rate(&dice, 30)
      rates.powerCut = rate(&dice, 30)
      rates.movedMap = rate(&dice, 100)
    } while rates.isNone
    if mustCutPower {
      rates.powerCut = dice.within(10...60)
      // Mutations that nothing makes durable prove nothing.
      fuaRate = max(fuaRate, 100)
      flushRate = max(flushRate, 60)
    }
  }

  var sizeBytes: UInt64 { UInt64(blocks * Scenario.blockBytes) }

  var export: ExportTable.Entry {
    ExportTable.Entry(
      name: "disk", aliases: [""], isReadOnly: false,
      geometry: Geometry(
        sizeBytes: sizeBytes, blockBytesMin: blockBytesMin, lockUnitBytes: UInt32(Scenario.blockBytes)),
      capabilities: capabilities)
  }

  /// Memory as tight as the payloads allow: the proportions of `Limits`.
  var limits: Limits {
    var limits = Limits()
    let payload = blocksMax * Scenario.blockBytes
    limits.connectionBytesMax = 2 * payload + 4096
    limits.imageBytesMax = 6 * payload + 8192
    limits.totalBytesMax = 8 * payload + 8192
    limits.smallChargeBytesMax = payload + 1024
    limits.sendQueuePauseBytes = 4096
    limits.sendQueueResumeBytes = 1024
    limits.requestsInFlightMax = 8
    return limits
  }

  func readPlan(_ request: Request, _ mode: ReplyMode) -> ReadPlan {
    var plan = ReadPlan(findsHoles: false, holeBytesMin: 512)
    plan.findsHoles =
      mode == .structured && !request.flags.contains(.dontFragment) && Int(request.length) >= holeProbeBytesMin
    return plan
  }

  func shape(_ guards: GuardSwitches) -> CallShape {
    CallShape(
      transferBytesMax: transferBytesMax,
      medium: EffectPlan.Medium(
        sizeBytes: sizeBytes, trimUnitBytes: trimUnitBytes, isBlockDevice: false,
        slice: SliceSize(startBytes: sliceBytes, least: 512, most: 1 << 30)),
      guards: guards)
  }
}
