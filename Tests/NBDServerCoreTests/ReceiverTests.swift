// The input half of a connection: the same requests however the bytes are cut, and memory only as they come.

import BlockBackend
import NBDProtocol
import NBDServerCore
import TestBackends
import Testing

private let table = ExportTable([.test(sizeBytes: 1 << 30)])
private let pool = PiecePool()

@Suite struct ReceiverTests {
  /// The same stream in one piece, byte by byte, and cut at random with parking in between.
  @Test(arguments: [(1, 30), (30, 3000), (5000, 400_000)])
  func cutsMakeNoDifference(meanBytes: Int, writeBytesMax: Int) throws {
    let seed = printedSeed()
    for run: UInt64 in 0..<8 {
      var random = SplitMix(seed: seed &+ run)
      let stream = Stream.random(requests: 40, writeBytesMax: writeBytesMax, using: &random)
      var whole = Reading()
      try whole.receive(stream.bytes)
      claim(whole.events == stream.events, "seed \(seed) run \(run)")
      var cut = Reading()
      var start = 0
      while start < stream.bytes.count {
        let end = min(stream.bytes.count, start + Int.random(in: 1...2 * meanBytes, using: &random))
        try cut.receive(Array(stream.bytes[start..<end]))
        if Int.random(in: 0..<4, using: &random) == 0 { cut.parkAndUnpark() }
        start = end
      }
      claim(cut.events == stream.events, "pieces of \(meanBytes) bytes, seed \(seed) run \(run)")
      claim(areEqual(cut.output, whole.output), "seed \(seed) run \(run)")
      claim(zip(cut.payloads, whole.payloads).allSatisfy { areEqual($0, $1) }, "seed \(seed) run \(run)")
    }
  }

  @Test(arguments: [256 << 10, 256 << 10 + 1, 256 << 10 - 1, 512 << 10, 1 << 20 + 1, 32 << 20])
  func writeArrivesAtEveryLength(length: Int) throws {
    let payload = countedBytes(length)
    var reading = try Reading.inTransmission()
    let header = request(.write, 4096, UInt32(length))
    let isLarge = length > Limits.inlineBytesMax
    var start = 0
    try reading.receive(header)
    while start < length {
      claim(reading.receiver.hasPayload == isLarge)
      let end = min(length, start + 300_001)
      try reading.receive(Array(payload[start..<end]))
      start = end
      // Memory is there for what has come, and for no more than one piece beyond it.
      claim(reading.payloadMemoryBytes <= (isLarge ? start + PiecePool.pieceBytes : 0))
    }
    claim(reading.events.count == 1)
    claim(reading.events.first == Event.write(4096, length))
    claim(areEqual(reading.payloads.first ?? [], payload))
    claim(!reading.receiver.hasPayload)
    // What follows is a request again.
    try reading.receive(request(.flush, 0, 0))
    claim(reading.events.last == Event.request(.flush, 0, 0))
  }

  /// The spec protects 32 MiB; what is refused up to 64 MiB is read away without being kept.
  @Test(arguments: [32 << 20 + 1, 64 << 20])
  func longRefusedPayloadIsDrained(length: Int) throws {
    var reading = try Reading.inTransmission()
    try reading.receive(request(.write, 0, UInt32(length)))
    let piece = [UInt8](repeating: 0xaa, count: 1 << 20)
    var missing = length
    while missing > 0 {
      claim(reading.events.isEmpty)
      let count = min(missing, piece.count)
      try reading.receive(count == piece.count ? piece : Array(piece.prefix(count)))
      claim(reading.receiver.parkedBytes == 0)
      claim(!reading.receiver.hasPayload)
      claim(reading.unconsumedBytes == 0)
      missing -= count
    }
    claim(reading.events == [Event.refused(.invalid)])
    try reading.receive(request(.read, 0, 512))
    claim(reading.events.last == Event.request(.read, 0, 512))
  }

  @Test func hugePayloadIsAViolation() throws {
    var reading = try Reading.inTransmission()
    claim(reading.violates(with: request(.write, 0, 64 << 20 + 1)))
  }

  /// A payload in the middle of its drain may be parked and go on.
  @Test func drainGoesOnAfterParking() throws {
    var reading = try Reading.inTransmission()
    try reading.receive(request(.write, 1 << 40, 1000))
    try reading.receive(countedBytes(600))
    reading.parkAndUnpark()
    try reading.receive(countedBytes(399))
    claim(reading.events.isEmpty)
    try reading.receive(countedBytes(1) + request(.read, 0, 1))
    claim(reading.events == [.refused(.noSpace), .request(.read, 0, 1)])
  }

  /// A request that cannot be taken now stays where it is, and is told again.
  @Test func requestThatIsNotTakenIsToldAgain() throws {
    var reading = try Reading.inTransmission()
    reading.mayTake = false
    let payload = countedBytes(5000)
    try reading.receive(request(.write, 512, 5000) + payload)
    claim(reading.events.isEmpty)
    reading.parkAndUnpark()
    try reading.receive([])
    claim(reading.events.isEmpty)
    claim(reading.unconsumedBytes == RequestHeader.byteCount + 5000)
    reading.mayTake = true
    try reading.receive([])
    claim(reading.events == [.write(512, 5000)])
    claim(reading.payloads == [payload])
  }

  @Test func parkingKeepsThePartOfARequest() throws {
    var reading = try Reading.inTransmission()
    let bytes = request(.trim, 4096, 8192)
    for cut in 0...bytes.count {
      try reading.receive(Array(bytes[..<cut]))
      reading.parkAndUnpark()
      try reading.receive(Array(bytes[cut...]))
      claim(reading.events.count == cut + 1)
      claim(reading.events.last == .request(.trim, 4096, 8192))
    }
  }

  @Test func nothingIsReadAfterDISC() throws {
    var reading = try Reading.inTransmission()
    try reading.receive(request(.disconnect, 0, 0) + request(.read, 0, 512) + countedBytes(100))
    claim(reading.events == [.disconnect])
    claim(reading.unconsumedBytes == 0)
  }

  @Test func wrongMagicIsAViolation() throws {
    var reading = try Reading.inTransmission()
    claim(reading.violates(with: [UInt8](repeating: 0xee, count: 28)))
  }
}

// MARK: What a client says

private func bigEndian(_ value: some FixedWidthInteger) -> [UInt8] {
  stride(from: value.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: value >> $0) }
}

private func request(_ command: Command, _ offset: UInt64, _ length: UInt32, flags: UInt16 = 0) -> [UInt8] {
  bigEndian(0x2560_9513 as UInt32) + bigEndian(flags) + bigEndian(command.rawValue) + bigEndian(0x77 as UInt64)
    + bigEndian(offset) + bigEndian(length)
}

private func option(_ number: UInt32, _ data: [UInt8] = []) -> [UInt8] {
  bigEndian(0x4948_4156_454f_5054 as UInt64) + bigEndian(number) + bigEndian(UInt32(data.count)) + data
}

/// Client flags; STRUCTURED_REPLY; an unknown option; GO for the default export.
private let handshake =
  bigEndian(3 as UInt32) + option(8) + option(4711, countedBytes(99)) + option(7, bigEndian(0 as UInt32) + [0, 0])

private enum Event: Equatable {
  case established
  case request(Command, UInt64, UInt32)
  case write(UInt64, Int)
  case refused(NBDError)
  case disconnect
}

private struct Stream {
  var bytes: [UInt8] = handshake
  var events: [Event] = [.established]

  static func random(requests: Int, writeBytesMax: Int, using random: inout SplitMix) -> Stream {
    var stream = Stream()
    for _ in 0..<requests {
      let offset = UInt64.random(in: 0..<1 << 20, using: &random)
      switch Int.random(in: 0..<10, using: &random) {
      case 0...2: stream.add(.read, offset, UInt32.random(in: 0...100_000, using: &random))
      case 3: stream.add(.flush, 0, 0)
      case 4: stream.add(.writeZeroes, offset, .random(in: 1...1 << 28, using: &random))
      case 5: stream.addRefused(offset: offset, payloadBytes: Int.random(in: 1...3000, using: &random))
      case 6: stream.addRefusedRead()
      default: stream.addWrite(offset, Int.random(in: 0...writeBytesMax, using: &random))
      }
    }
    stream.bytes += CoreTestBytes.disconnect
    stream.events.append(.disconnect)
    return stream
  }

  mutating func add(_ command: Command, _ offset: UInt64, _ length: UInt32) {
    bytes += NBDServerCoreTests.request(command, offset, length)
    events.append(.request(command, offset, length))
  }

  mutating func addWrite(_ offset: UInt64, _ length: Int) {
    bytes += NBDServerCoreTests.request(.write, offset, UInt32(length)) + countedBytes(length, from: offset)
    events.append(.write(offset, length))
  }

  /// Beyond the end.
  mutating func addRefused(offset: UInt64, payloadBytes: Int) {
    bytes += NBDServerCoreTests.request(.write, 1 << 40 + offset, UInt32(payloadBytes)) + countedBytes(payloadBytes)
    events.append(.refused(.noSpace))
  }

  mutating func addRefusedRead() {
    bytes += NBDServerCoreTests.request(.read, 0, 32 << 20 + 1)
    events.append(.refused(.invalid))
  }
}

private enum CoreTestBytes {
  static let disconnect = NBDServerCoreTests.request(.disconnect, 0, 0)
}

// MARK: A lease holder

/// Feeds a receiver as a worker does.
private struct Reading: ~Copyable {
  var receiver = Receiver(limits: Limits(), pool: pool)
  var buffer: [UInt8] = []
  var output: [UInt8] = []
  var events: [Event] = []
  /// Of the writes, in order.
  var payloads: [[UInt8]] = []
  var payloadMemoryBytes = 0
  /// False: requests are looked at and left.
  var mayTake = true

  static func inTransmission() throws(ProtocolViolation) -> Reading {
    var reading = Reading()
    try reading.receive(handshake)
    reading.events = []
    return reading
  }

  var unconsumedBytes: Int { buffer.count }

  mutating func parkAndUnpark() {
    let kept = buffer
    receiver.park(kept.rawBytes)
    claim(receiver.parkedBytes == kept.count)
    var back = IOBuffer(count: kept.count)
    var room = back.mutableBytes
    let count = receiver.unpark(into: &room)
    claim(areEqual([UInt8](copying: back.bytes.extracting(first: count)), kept))
    claim(receiver.parkedBytes == 0)
  }

  mutating func violates(with bytes: [UInt8]) -> Bool {
    do throws(ProtocolViolation) {
      try receive(bytes)
      return false
    } catch { return true }
  }

  mutating func receive(_ bytes: [UInt8]) throws(ProtocolViolation) {
    buffer += bytes
    let all = buffer
    var start = 0
    defer { if start > 0 { buffer.removeFirst(start) } }
    while true {
      fillPayload(all, &start)
      if receiver.payloadMissingBytes > 0 { return }
      let input = all.rawBytes.extracting(droppingFirst: start)
      let (consumed, event) = try receiver.next(input, exports: table, isShuttingDown: false, output: &output)
      switch event {
      case .needsBytes:
        start += consumed
        return
      case .negotiating: break
      case .established: events.append(.established)
      case .request(let request, let payload):
        guard mayTake else { return }
        if request.command == .write {
          events.append(.write(request.offset, payload.count))
          payloads.append([UInt8](copying: input.extracting(payload)))
        } else {
          claim(payload.isEmpty)
          events.append(.request(request.command, request.offset, request.length))
        }
      case .largeWrite(let request): receiver.beginPayload(of: request)
      case .largeWriteIsComplete(let request):
        let payload = receiver.takePayload()
        claim(payload.capacityBytes == Int(request.length), "memory of exactly its length")
        events.append(.write(request.offset, payload.count))
        payloads.append(payload.array())
        payloadMemoryBytes = 0
      case .refused(let refusal): events.append(.refused(refusal.error))
      case .disconnect: events.append(.disconnect)
      case .close(let reason): Issue.record("\(reason)")
      }
      start += consumed
    }
  }

  private mutating func fillPayload(_ input: [UInt8], _ start: inout Int) {
    while start < input.count && receiver.payloadMissingBytes > 0 {
      let growth = receiver.payloadGrowthBytes
      if growth > 0 {
        receiver.growPayload(by: growth)
        payloadMemoryBytes += growth
      }
      var room = receiver.payloadRoom()
      let count = min(room.byteCount, input.count - start)
      room.copy(input.rawBytes.extracting(start..<start + count))
      receiver.commitPayload(count)
      start += count
    }
  }
}
