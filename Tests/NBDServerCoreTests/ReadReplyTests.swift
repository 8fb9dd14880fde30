// The reply to a READ as it goes on the wire: its chunks cover the range exactly, whatever the layout.

import BlockBackend
import NBDProtocol
import NBDServerCore
import SystemPackage
import TestBackends
import Testing

private let pool = PiecePool()
private let table = ExportTable([.test()])

@Suite struct ReadReplyTests {
  @Test func replyWithoutHolesIsOneChunk() throws {
    for length: UInt32 in [1, 512, 65535, 65536, 256 << 10, 256 << 10 + 1, 1 << 20] {
      let reply = try Reply(LayoutBackend([(.data, UInt64(length))], from: 100), 100, length)
      claim(reply.chunks.count == 1)
      claim(reply.wireBytes == Int(length) + 28)
    }
  }

  @Test func simpleReplyHasNoHoles() throws {
    let backend = LayoutBackend([(.hole, 1 << 20)], from: 0)
    let reply = try Reply(backend, 0, 1 << 20, mode: .simple)
    claim(reply.wireBytes == 1 << 20 + 16)
    claim(backend.extentsCalls == 0)
  }

  @Test func dontFragmentHasNoHoles() throws {
    let backend = LayoutBackend([(.hole, 1 << 19), (.data, 1 << 19)], from: 0)
    let reply = try Reply(backend, 0, 1 << 20, flags: .dontFragment)
    claim(reply.chunks.count == 1)
    claim(reply.holeCount == 0)
    claim(backend.extentsCalls == 0)
  }

  /// Two lseeks are not worth it.
  @Test func shortReadIsNotProbed() throws {
    let backend = LayoutBackend([(.hole, 65535)], from: 0)
    claim(try Reply(backend, 0, 65535).holeCount == 0)
    claim(backend.extentsCalls == 0)
    claim(try Reply(LayoutBackend([(.hole, 65536)], from: 0), 0, 65536).holeCount == 1)
  }

  @Test func backendThatCannotTellIsNotAsked() throws {
    let backend = LayoutBackend([(.hole, 1 << 20)], from: 0, capabilities: Capabilities.memory.subtracting(.extents))
    claim(try Reply(backend, 0, 1 << 20).holeCount == 0)
    claim(backend.extentsCalls == 0)
  }

  @Test func allHoleIsOneChunk() throws {
    let reply = try Reply(LayoutBackend([(.hole, 32 << 20)], from: 4096), 4096, 32 << 20)
    claim(reply.chunks.count == 1)
    claim(reply.wireBytes == 32)
  }

  @Test func shortHoleIsSentAsZeroes() throws {
    let just = LayoutBackend([(.data, 50000), (.hole, 4096), (.data, 50000)], from: 0)
    claim(try Reply(just, 0, 104_096).holeCount == 1)
    let under = LayoutBackend([(.data, 50000), (.hole, 4095), (.data, 50000)], from: 0)
    let reply = try Reply(under, 0, 104_095)
    claim(reply.holeCount == 0)
    claim(reply.chunks.count == 1)
  }

  /// Zeroes with storage are no hole.
  @Test func zeroesWithStorageAreSent() throws {
    claim(try Reply(LayoutBackend([(.zero, 1 << 20)], from: 0), 0, 1 << 20).holeCount == 0)
  }

  /// What the layout does not speak of is read as data.
  @Test func restBehindTheLayoutIsData() throws {
    let backend = LayoutBackend([(.hole, 8192)], from: 0)
    let reply = try Reply(backend, 0, 100_000)
    claim(reply.chunks.map(\.isHole) == [true, false])
    let all = LayoutBackend([(.hole, 99_999)], from: 0)
    claim(try Reply(all, 0, 100_000).chunks.map(\.bytes) == [99_999, 1])
  }

  @Test func failedReadReplacesTheReply() {
    for kind in [BackendCall.Kind.read, .extents] {
      let faults = FaultBackend(LayoutBackend([(.hole, 65536), (.data, 1 << 20)], from: 0))
      faults.fail(kind, nth: kind == .read ? 2 : 1, with: .ioError, at: 300_000)
      #expect(throws: BackendError(.ioError, at: 300_000)) { try Reply(faults, 0, 1 << 20) }
    }
  }

  @Test func randomLayoutsAreCoveredExactly() throws {
    let seed = printedSeed()
    var random = SplitMix(seed: seed)
    for run in 0..<300 {
      let offset = UInt64.random(in: 0..<1 << 20, using: &random)
      let length = UInt32.random(in: 1...400_000, using: &random)
      var layout: [(Extent.Kind, UInt64)] = []
      var rest = UInt64(length)
      // Sometimes the layout ends before the range does.
      let isShort = Int.random(in: 0..<4, using: &random) == 0
      while rest > 0, layout.count < (isShort ? 3 : 1000) {
        let near: UInt64 = [1, 4095, 4096, 4097, 8192, 60000].randomElement(using: &random)!
        let bytes = min(rest, UInt64.random(in: 1...near, using: &random))
        layout.append(([.data, .hole, .zero].randomElement(using: &random)!, bytes))
        rest -= bytes
      }
      // The parser checks the rules.
      let reply = try Reply(
        LayoutBackend(layout, from: offset), offset, length, context: "seed \(seed) run \(run)")
      claim(reply.chunks.count <= 1 + 2 * layout.count)
    }
  }
}

/// A backend of a given layout; data is never zero, so that a wrong hole shows.
private final class LayoutBackend: BlockBackend {
  let geometry = Geometry(sizeBytes: 1 << 40)
  let capabilities: Capabilities
  private let layout: [Extent]
  private let start: UInt64
  private let calls = Counter()

  init(_ layout: [(Extent.Kind, UInt64)], from start: UInt64, capabilities: Capabilities = .memory) {
    self.layout = layout.map { Extent(lengthBytes: $1, kind: $0) }
    self.start = start
    self.capabilities = capabilities
  }

  var extentsCalls: Int { calls.value }

  /// What a byte of `offset` is.
  static func byte(_ offset: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: offset >> 8 ^ offset) | 1 }

  func read(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) {
    for index in 0..<bytes.byteCount {
      bytes.storeBytes(of: Self.byte(offset + UInt64(index)), toByteOffset: index, as: UInt8.self)
    }
    var covered = start
    for extent in layout {
      let end = covered + extent.lengthBytes
      let part = max(covered, offset)..<max(max(covered, offset), min(end, offset + UInt64(bytes.byteCount)))
      if extent.kind != .data, !part.isEmpty {
        var zeroes = bytes._mutatingExtracting(Int(part.lowerBound - offset)..<Int(part.upperBound - offset))
        zeroes.fill(0)
      }
      covered = end
    }
  }

  func extents(of range: Range<UInt64>, extentsMax: Int) throws(BackendError) -> [Extent] {
    calls.increment()
    precondition(range.lowerBound == start, "the layout is that of one request")
    return Array(layout.prefix(extentsMax))
  }

  func readCached(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) -> Int { 0 }
  func write(_ bytes: RawSpan, at offset: UInt64) throws(BackendError) {}
  func trim(_ range: Range<UInt64>) throws(BackendError) {}
  func zero(_ range: Range<UInt64>, _ options: ZeroOptions) throws(BackendError) {}
  func sync() throws(BackendError) {}
  func cache(_ range: Range<UInt64>) throws(BackendError) {}
}

/// A reply, taken apart and held to the rules of "Structured replies": chunks cover the range in order, without gap or
/// overlap, none is empty, the last alone is marked, the data is that of the backend.
private struct Reply {
  struct Chunk {
    var isHole: Bool
    var bytes: UInt64
  }
  var chunks: [Chunk] = []
  var wireBytes: Int
  var holeCount: Int { chunks.count { $0.isHole } }

  @discardableResult
  init(
    _ backend: any BlockBackend, _ offset: UInt64, _ length: UInt32, flags: CommandFlags = [],
    mode: ReplyMode = .structured, context: String = ""
  ) throws {
    let session = Session.test(table, replies: mode)
    let request = Request(command: .read, flags: flags, cookie: 0x1122_3344, offset: offset, length: length)
    let encoder = ReplyEncoder(session: session)
    let plan = ReadPlan(request, session: session, capabilities: backend.capabilities)
    let reply = try buildReadReply(request, encoder: encoder, plan: plan, backend: backend, pool: pool)
    let bytes = reply.array()
    wireBytes = bytes.count
    claim(reply.capacityBytes == bytes.count, "memory of exactly its length \(context)")
    claim(wireBytes <= readReplyBytesMax(request, encoder: encoder), "no more than was reserved \(context)")

    var data = [UInt8](repeating: 0, count: Int(length))
    if mode == .simple {
      data = Array(bytes[16...])
      chunks = [Chunk(isHole: false, bytes: UInt64(length))]
    } else {
      try parse(bytes, into: &data, from: offset, context)
    }
    var expected = IOBuffer(zeroes: Int(length))
    var span = expected.mutableBytes
    try backend.read(into: &span, at: offset)
    claim(areEqual(data, [UInt8](copying: expected.bytes)), "the data is that of the backend \(context)")
  }

  private mutating func parse(
    _ bytes: [UInt8], into data: inout [UInt8], from offset: UInt64, _ context: String
  ) throws {
    var position = 0
    func number(_ count: Int) -> UInt64 {
      defer { position += count }
      return bytes[position..<position + count].reduce(0) { $0 << 8 | UInt64($1) }
    }
    var covered = offset
    var isDone = false
    while position < bytes.count {
      try #require(!isDone, "nothing follows the last chunk \(context)")
      claim(number(4) == 0x668e_33ef)
      isDone = number(2) == 1
      let type = number(2)
      claim(number(8) == 0x1122_3344)
      let payload = Int(number(4))
      try #require(number(8) == covered, "no gap and no overlap \(context)")
      switch type {
      case 1:
        let count = payload - 8
        try #require(count > 0, "no chunk is empty \(context)")
        let first = Int(covered - offset)
        try #require(first + count <= data.count, "ends inside the request \(context)")
        data.replaceSubrange(first..<first + count, with: bytes[position..<position + count])
        position += count
        chunks.append(Chunk(isHole: false, bytes: UInt64(count)))
      case 2:
        try #require(payload == 12)
        let count = number(4)
        try #require(count > 0, "no hole is empty \(context)")
        chunks.append(Chunk(isHole: true, bytes: count))
      default: Issue.record("chunk type \(type) \(context)")
      }
      covered += chunks.last?.bytes ?? 0
    }
    claim(isDone, "the last chunk is marked \(context)")
    claim(covered == offset + UInt64(data.count), "covers all \(context)")
    for (one, next) in zip(chunks, chunks.dropFirst()) {
      claim(!(one.isHole && next.isHole), "neighbours of one kind are one chunk \(context)")
    }
  }
}
