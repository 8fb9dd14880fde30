// A client: haggles, sends requests, several at a time, and takes replies apart, trusting nothing.

import NBDProtocol

/// One request as its client knows it.
struct Record {
  var id: UInt64
  var command: Command
  var flags: CommandFlags
  /// Bytes.
  var offset: UInt64
  var length: UInt32
  var connection: Int
  var invoked: UInt64
  var completed: UInt64?
  var error: NBDError?
  /// What the request has to be refused with.
  var refusal: NBDError?
  var data: [UInt8] = []
  /// Of an error chunk: the request has failed, whatever follows.
  var chunkError: UInt32?
  /// Of BLOCK_STATUS: the ranges, in bytes, that were said to read as zeroes.
  var zeroes: [Range<UInt64>] = []

  var succeeded: Bool { completed != nil && error == nil }
}

final class SimulatedClient {
  enum Phase { case away, greeted, haggling, ready, leaving, gone }

  let number: Int
  unowned let world: World
  var phase = Phase.away
  private(set) var connection: SimulatedConnection?
  private(set) var isStructured = false
  private var asksExportName = false
  private var contextID: UInt32?
  private(set) var flags: TransmissionFlags = []
  private var received: [UInt8] = []
  private var start = 0
  /// Unanswered, by cookie.
  private(set) var outstanding: [UInt64: Int] = [:]
  private var nextCookie: UInt64 = 0

  init(number: Int, world: World) {
    self.number = number
    self.world = world
  }

  var mayAskStatus: Bool { contextID != nil }

  // MARK: Connecting

  func connect(_ connection: SimulatedConnection) {
    self.connection = connection
    phase = .greeted
    received = []
    start = 0
    outstanding = [:]
    contextID = nil
    isStructured = world.dice.chance(600)
    asksExportName = !isStructured && world.dice.chance(500)
    nextCookie = world.dice.chance(500) ? 0 : UInt64(world.dice.below(1 << 40)) << 20
    var bytes: [UInt8] = []
    bytes.appendNumber(3 as UInt32)
    if isStructured {
      bytes.appendOption(8, [])
      if world.dice.chance(800) {
        var data: [UInt8] = []
        data.appendString("")
        data.appendNumber(1 as UInt32)
        data.appendString("base:allocation")
        bytes.appendOption(10, data)
      }
    }
    if asksExportName {
      bytes.appendOption(1, [])
    } else {
      var data: [UInt8] = []
      data.appendString("")
      data.appendNumber(0 as UInt16)
      bytes.appendOption(7, data)
    }
    connection.toServer.append(bytes)
  }

  /// The connection is gone for this client.
  func leave() {
    connection = nil
    phase = .gone
    outstanding = [:]
  }

  // MARK: Requests

  func send(_ record: Record, index: Int, payload: [UInt8], type: UInt16? = nil, rawFlags: UInt16? = nil) {
    nextCookie += 1
    outstanding[nextCookie] = index
    var bytes: [UInt8] = []
    bytes.reserveCapacity(28 + payload.count)
    bytes.appendRequest(
      flags: rawFlags ?? record.flags.rawValue, type: type ?? record.command.rawValue, cookie: nextCookie,
      offset: record.offset, length: record.length)
    bytes += payload
    connection?.toServer.append(bytes)
  }

  func disconnect(_ asksNicely: Bool) {
    if asksNicely {
      var bytes: [UInt8] = []
      bytes.appendRequest(flags: 0, type: Command.disconnect.rawValue, cookie: 0, offset: 0, length: 0)
      connection?.toServer.append(bytes)
    }
    connection?.toServer.isEnded = true
    phase = .leaving
  }

  // MARK: Replies

  func receive(_ bytes: ArraySlice<UInt8>) {
    received += bytes
    while world.finding == nil, takeMessage() {}
    if start > 0 {
      received.removeFirst(start)
      start = 0
    }
  }

  private var available: Int { received.count - start }

  private func number<Number: FixedWidthInteger>(at offset: Int, as: Number.Type = Number.self) -> Number {
    var value: Number = 0
    for index in 0..<Number.bitWidth / 8 { value = value << 8 | Number(received[start + offset + index]) }
    return value
  }

  private func takeMessage() -> Bool {
    switch phase {
    case .away, .gone: return false
    case .greeted:
      guard available >= 18 else { return false }
      start += 18
      phase = .haggling
      return true
    case .haggling: return asksExportName ? takeExport() : takeOptionReply()
    case .ready, .leaving: return takeReply()
    }
  }

  private func takeExport() -> Bool {
    guard available >= 10 else { return false }
    flags = TransmissionFlags(rawValue: number(at: 8))
    start += 10
    phase = .ready
    return true
  }

  private func takeOptionReply() -> Bool {
    guard available >= 20 else { return false }
    let option: UInt32 = number(at: 8)
    let type: UInt32 = number(at: 12)
    let length = Int(number(at: 16, as: UInt32.self))
    guard number(at: 0, as: UInt64.self) == 0x3_e889_0455_65a9 else {
      world.violate("reply", "an option reply begins with a wrong magic number")
      return false
    }
    guard available >= 20 + length else { return false }
    if type & 0x8000_0000 != 0 { world.violate("reply", "option \(option) was refused with \(type)") }
    if type == 4 { contextID = number(at: 20) }
    if option == 7 && type == 3 && length == 12 { flags = TransmissionFlags(rawValue: number(at: 30)) }
    if option == 7 && type == 1 { phase = .ready }
    start += 20 + length
    return true
  }

  private func takeReply() -> Bool {
    guard available >= 16 else { return false }
    let magic: UInt32 = number(at: 0)
    switch magic {
    case 0x6744_6698: return takeSimple()
    case 0x668e_33ef:
      guard isStructured else {
        world.violate("reply", "client \(self.number) got a chunk and had not agreed on structured replies")
        return false
      }
      return takeChunk()
    default:
      world.violate("reply", "client \(self.number) got a reply with magic number \(magic)")
      return false
    }
  }

  private func index(of cookie: UInt64) -> Int? {
    guard let index = outstanding[cookie] else {
      world.violate("reply", "client \(number) got a reply for cookie \(cookie), which is not outstanding")
      return nil
    }
    return index
  }

  private func takeSimple() -> Bool {
    let code: UInt32 = number(at: 4)
    let cookie: UInt64 = number(at: 8)
    guard let index = index(of: cookie) else { return false }
    let record = world.records[index]
    if isStructured && record.command == .read {
      world.violate("reply", "a READ was answered with a simple reply after structured ones were agreed")
    }
    let dataBytes = code == 0 && record.command == .read ? Int(record.length) : 0
    guard available >= 16 + dataBytes else { return false }
    let data = [UInt8](received[start + 16..<start + 16 + dataBytes])
    start += 16 + dataBytes
    world.records[index].data = data
    end(cookie, index, code)
    return true
  }

  private func end(_ cookie: UInt64, _ index: Int, _ code: UInt32) {
    outstanding[cookie] = nil
    if code != 0 {
      guard let error = NBDError(rawValue: code) else {
        return world.violate("reply", "error \(code) is not one of the protocol")
      }
      world.records[index].error = error
      world.records[index].data = []
    }
    world.answered(index, by: self)
  }

  private func takeChunk() -> Bool {
    guard available >= 20 else { return false }
    let chunkFlags: UInt16 = number(at: 4)
    let type: UInt16 = number(at: 6)
    let cookie: UInt64 = number(at: 8)
    let length = Int(number(at: 16, as: UInt32.self))
    guard length <= 1 << 22 else {
      world.violate("reply", "a chunk of \(length) bytes")
      return false
    }
    guard available >= 20 + length else { return false }
    guard let index = index(of: cookie) else { return false }
    let body = start + 20
    defer { start += 20 + length }
    switch ReplyType(rawValue: type) {
    case .some(.none): break
    case .offsetData:
      checkChunk(index, offset: number(at: 20))
      world.records[index].data += received[body + 8..<body + length]
    case .offsetHole:
      let hole = Int(number(at: 28, as: UInt32.self))
      checkChunk(index, offset: number(at: 20))
      if hole == 0 || world.records[index].flags.contains(.dontFragment) {
        world.violate("reply", "a hole chunk that may not be")
      }
      world.records[index].data += [UInt8](repeating: 0, count: hole)
    case .blockStatus: takeStatus(index, length)
    case .error, .errorOffset:
      let code: UInt32 = number(at: 20)
      if code == 0 || world.records[index].chunkError != nil {
        world.violate("reply", "request \(world.records[index].id) got an error chunk of \(code) that may not be")
      }
      world.records[index].chunkError = code
    case nil: world.violate("reply", "a chunk of type \(type)")
    }
    guard chunkFlags & 1 != 0 else { return true }
    let record = world.records[index]
    let code = record.chunkError ?? 0
    if code == 0 && record.command == .read && record.data.count != Int(record.length) && record.refusal == nil {
      world.violate("reply", "READ \(record.id) of \(record.length) bytes got \(record.data.count)")
    }
    end(cookie, index, code)
    return true
  }

  private func checkChunk(_ index: Int, offset: UInt64) {
    let record = world.records[index]
    if record.command != .read || offset != record.offset + UInt64(record.data.count) {
      world.violate("reply", "request \(record.id) got a chunk for byte \(offset) out of place")
    }
    if record.flags.contains(.dontFragment) && !record.data.isEmpty {
      world.violate("reply", "READ \(record.id) with DF got several chunks")
    }
  }

  private func takeStatus(_ index: Int, _ length: Int) {
    let record = world.records[index]
    guard record.command == .blockStatus, length >= 12, (length - 4) % 8 == 0 else {
      return world.violate("reply", "a malformed block status")
    }
    var offset = record.offset
    for descriptor in 0..<(length - 4) / 8 {
      let bytes: UInt32 = number(at: 24 + 8 * descriptor)
      let status: UInt32 = number(at: 28 + 8 * descriptor)
      if bytes == 0 { world.violate("status", "a descriptor of no bytes") }
      let end = offset + UInt64(bytes)
      if end > record.offset + UInt64(record.length) {
        world.violate("status", "status beyond the range that was asked for, at byte \(end) (I3)")
      }
      if status & 2 != 0 { world.records[index].zeroes.append(offset..<end) }
      offset = end
    }
    if record.flags.contains(.reqOne) && length != 12 { world.violate("status", "REQ_ONE got several descriptors") }
  }
}

extension [UInt8] {
  fileprivate mutating func appendOption(_ number: UInt32, _ data: [UInt8]) {
    appendNumber(0x4948_4156_454f_5054 as UInt64)
    appendNumber(number)
    appendNumber(UInt32(data.count))
    self += data
  }

  fileprivate mutating func appendString(_ string: String) {
    appendNumber(UInt32(string.utf8.count))
    self += Array(string.utf8)
  }
}
