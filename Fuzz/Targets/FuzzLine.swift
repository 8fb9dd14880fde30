// One connection of the target "server": the server's halves of it, and the client at the other end.

import BlockBackend
import NBDProtocol
import NBDServerCore
import Oracle

final class FuzzLine {
  var inlet: Inlet
  var replies: Replies
  var session: Session?
  let isStructured: Bool
  private let pool: PiecePool

  // The client.
  /// Sent, and not received by the server.
  var wire: [UInt8] = []
  var reader: ReplyReader?
  /// Requests without a reply: index in the history, by cookie.
  private var open: [UInt64: Int] = [:]
  var hasSaidGoodbye = false
  var hasSentGarbage = false

  // The socket.
  /// Bytes it still takes.
  var room = 0
  var isWatchedForWriting = false
  var hasClosed = false
  var hasEndOfStream = false

  init(limits: Limits, isStructured: Bool, pool: PiecePool) {
    inlet = Inlet(pool: pool)
    replies = Replies(limits: limits)
    self.isStructured = isStructured
    self.pool = pool
    wire = Say.number(3 as UInt32)
    if isStructured {
      wire += Say.option(8, []) + Say.option(10, Say.queries([], [Array("base:allocation".utf8)]))
    }
    wire += Say.option(7, Say.info([], []))
  }

  // MARK: The client

  func send(_ world: FuzzWorld, _ type: UInt16, blocks: Range<Int>, flags: UInt16) {
    let id = world.nextID()
    let kinds: [UInt16: Operation.Kind] = [0: .read, 1: .write, 4: .trim, 6: .writeZeroes]
    var offset = UInt64(blocks.lowerBound * BlockStamp.blockBytes)
    var length = UInt32(blocks.count * BlockStamp.blockBytes)
    if type == 3 { (offset, length) = (0, 0) }
    reader?.ask(id, ReplyReader.Asked(type: type, flags: flags, offset: offset, length: length))
    wire += Say.request(type, flags: flags, cookie: id, offset: offset, length: length)
    if type == 1 { wire += BlockStamp.payload(id: id, blocks: blocks) }
    open[id] = world.history.operations.count
    world.history.operations.append(
      Operation(
        id: id, kind: kinds[type] ?? .read, blocks: blocks, invoked: world.nextEvent(), completed: nil,
        succeeded: false))
  }

  private func receive(_ world: FuzzWorld, _ bytes: some Sequence<UInt8>) throws {
    for reply in try reader?.receive(bytes) ?? [] {
      guard let index = open.removeValue(forKey: reply.cookie) else {
        throw Finding(description: "a request is answered once: \(reply.cookie)")
      }
      world.history.operations[index].completed = world.nextEvent()
      world.history.operations[index].succeeded = reply.error == 0
      if reply.asked.type == 0, reply.error == 0 {
        world.history.operations[index].seen = BlockStamp.runs(
          in: reply.data, first: world.history.operations[index].blocks.lowerBound)
      }
      // Neither changes nor tells what a block holds.
      if ![0, 1, 4, 6].contains(reply.asked.type) { world.history.operations[index].succeeded = false }
    }
  }

  /// Bytes that are no request, and never become one; nothing follows them.
  func sendGarbage(_ bytes: [UInt8]) {
    guard let first = bytes.first, !hasSaidGoodbye else { return }
    wire += [first == 0x25 ? 0 : first] + bytes.dropFirst()
    (hasSaidGoodbye, hasSentGarbage) = (true, true)
  }

  /// The handshake has ended.
  func becomeEstablished(_ session: Session) {
    self.session = session
    reader = ReplyReader(isStructured: isStructured, sizeBytes: session.export.sizeBytes)
  }

  // MARK: Sending, as the server does it

  /// A reply of the lease holder: straight into the socket when nothing is in front of it.
  func sendNow(_ world: FuzzWorld, _ bytes: [UInt8]) throws {
    guard !bytes.isEmpty else { return }
    guard replies.mayBeginSending() else { return try queue(world, bytes) }
    let count = min(room, bytes.count)
    room -= count
    try receive(world, bytes[..<count])
    if count < bytes.count {
      _ = replies.putBack(outgoing(Array(bytes[count...])))
      return block()
    }
    try sendQueued(world)
  }

  /// A reply from the slow lane.
  func queue(_ world: FuzzWorld, _ bytes: [UInt8]) throws {
    let (_, mustSend) = replies.append(outgoing(bytes))
    if mustSend { try sendQueued(world) }
  }

  private func outgoing(_ bytes: [UInt8]) -> Replies.Outgoing {
    var buffer = PieceBuffer(pool: pool, capacityBytes: bytes.count)
    buffer.append(bytes.rawBytes)
    return Replies.Outgoing(buffer, chargedBytes: bytes.count)
  }

  func sendQueued(_ world: FuzzWorld) throws {
    while var next = replies.nextToSend() {
      let rest = Array(next.buffer.array()[next.sentBytes...])
      let count = min(room, rest.count)
      room -= count
      next.sentBytes += count
      try receive(world, rest[..<count])
      guard count == rest.count else {
        _ = replies.putBack(next)
        return block()
      }
    }
  }

  private func block() { isWatchedForWriting = replies.becomesBlocked() }

  var isAlive: Bool { replies.life.isAlive && !hasClosed }

  /// Nothing of this client is open: for the end of a run.
  var unansweredCount: Int { open.count }
}
