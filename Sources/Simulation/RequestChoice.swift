// What a client asks for next, and how a system call ends: the two draws that shape a run.

import BlockBackend
import NBDProtocol
import Oracle
import SystemPackage

/// One request to be sent.
struct RequestChoice {
  private(set) var record: Record
  /// Not one of the protocol.
  private(set) var rawType: UInt16?
  private(set) var rawFlags: UInt16?

  init(_ scenario: Scenario, _ client: SimulatedClient, _ dice: inout Dice) {
    let command = RequestChoice.command(scenario, client, &dice)
    record = Record(id: 0, command: command, flags: [], offset: 0, length: 0, connection: 0, invoked: 0)
    guard command.rule.hasRange else { return }
    let length = dice.chance(700) ? dice.within(1...min(4, scenario.blocksMax)) : dice.within(1...scenario.blocksMax)
    let place = dice.chance(500) ? scenario.hotBlocks : scenario.blocks
    let first = min(dice.below(place), scenario.blocks - length)
    record.offset = UInt64(first * Scenario.blockBytes)
    record.length = UInt32(length * Scenario.blockBytes)
    if dice.chance(8) && command != .blockStatus { record.length = 0 }
    drawFlags(scenario, client, &dice)
    if dice.chance(scenario.badRequests) { spoil(scenario, &dice) }
  }

  private static func command(_ scenario: Scenario, _ client: SimulatedClient, _ dice: inout Dice) -> Command {
    if dice.chance(scenario.flushRate) { return .flush }
    let pick = dice.below(100)
    switch pick {
    case 0..<35: return .read
    case 35..<70: return .write
    case 70..<80: return scenario.capabilities.contains(.trim) ? .trim : .write
    case 80..<90: return .writeZeroes
    case 90..<93: return .cache
    default: return client.mayAskStatus ? .blockStatus : .read
    }
  }

  private mutating func drawFlags(_ scenario: Scenario, _ client: SimulatedClient, _ dice: inout Dice) {
    if dice.chance(scenario.fuaRate) { record.flags.insert(.fua) }
    switch record.command {
    case .read: if client.isStructured && dice.chance(200) { record.flags.insert(.dontFragment) }
    case .writeZeroes:
      if dice.chance(300) { record.flags.insert(.noHole) }
      if scenario.capabilities.contains(.fastZero) && dice.chance(200) { record.flags.insert(.fastZero) }
    case .blockStatus: if dice.chance(200) { record.flags.insert(.reqOne) }
    case .write, .trim, .cache, .flush, .disconnect: break
    }
  }

  /// Breaks one rule, so that the server has to refuse.
  private mutating func spoil(_ scenario: Scenario, _ dice: inout Dice) {
    guard record.length > 0 else { return }
    switch dice.below(5) {
    case 0:
      record.offset = scenario.sizeBytes - UInt64(dice.below(Int(record.length)))
      if record.offset % UInt64(Scenario.blockBytes) != 0 { record.offset = scenario.sizeBytes }
      record.refusal = record.command.rule.errorOutOfRange
    case 1 where scenario.blockBytesMin == 512:
      record.offset += 1
      record.length -= 1
      record.refusal = .invalid
    case 2 where !scenario.capabilities.contains(.trim):
      record.command = .trim
      record.flags = []
      record.refusal = .invalid
    case 3 where !scenario.capabilities.contains(.fastZero):
      record.command = .writeZeroes
      record.flags = .fastZero
      record.refusal = .invalid
    case 4:
      rawFlags = 1 << 9
      record.refusal = .invalid
    default:
      guard record.command != .write else { return }
      rawType = 77
      record.refusal = .invalid
    }
  }

  func payload(id: UInt64) -> [UInt8] {
    guard record.command == .write else { return [] }
    let first = Int(record.offset) / Scenario.blockBytes
    let blocks = (Int(record.length) + Scenario.blockBytes - 1) / Scenario.blockBytes
    return Array(BlockStamp.payload(id: id, blocks: first..<first + blocks).prefix(Int(record.length)))
  }
}

enum CallFate {
  /// How the present call goes on.
  static func draw(_ current: SystemCall, _ scenario: Scenario, _ dice: inout Dice) -> CallEvent {
    let rates = scenario.rates
    let rest = Int(current.call.length - current.done)
    switch current.call.kind {
    case .readCached:
      if dice.chance(scenario.coldReads) {
        return dice.chance(500) ? .fails(.resourceTemporarilyUnavailable, after: 0) : short(current, rest, &dice)
      }
    case .read, .write:
      if rest > 1 && dice.chance(rates.partialEffect) { return .progresses(UInt64(dice.within(1...rest - 1))) }
      // What has taken effect is counted: an error comes with the next call.
      if current.done > 0 { return dice.chance(rates.shortCount) ? short(current, rest, &dice) : .completes }
      if let errno = error(rates, current.call.kind, &dice) { return .fails(errno, after: 0) }
      if dice.chance(rates.shortCount) { return short(current, rest, &dice) }
    case .punchHole, .zeroRange, .allocate, .discard:
      if scenario.refused.contains(current.call.kind) { return .fails(.notSupported, after: 0) }
      if rest > 1 && dice.chance(rates.partialEffect) { return .progresses(UInt64(dice.within(1...rest - 1))) }
      if let errno = error(rates, current.call.kind, &dice) {
        return .fails(errno, after: current.done + UInt64(dice.below(rest + 1)))
      }
    case .seekData, .seekHole:
      if scenario.refused.contains(current.call.kind) { return .fails(.invalidArgument, after: 0) }
      if dice.chance(rates.interrupted) { return .fails(.interrupted, after: 0) }
      if dice.chance(rates.ioError) { return .fails(.ioError, after: 0) }
    case .willNeed, .sync, .mapExtents, .countCached, .pause: break
    }
    return .completes
  }

  private static func short(_ current: SystemCall, _ rest: Int, _ dice: inout Dice) -> CallEvent {
    .endsShort(current.done + UInt64(dice.within(rest > 1 ? 1...rest - 1 : 1...1)))
  }

  private static func error(_ rates: FaultRates, _ kind: FileCall.Kind, _ dice: inout Dice) -> Errno? {
    if dice.chance(rates.interrupted) { return .interrupted }
    if dice.chance(rates.tryAgain) { return .resourceTemporarilyUnavailable }
    if dice.chance(rates.ioError) { return .ioError }
    if kind != .read && dice.chance(rates.noSpace) { return .noSpace }
    return nil
  }
}
