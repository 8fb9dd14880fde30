// What was found by probing servers: dead connections, failed syncs, long zeroes, trims that do nothing (I6, I7, I2, I8).

import CNbd
import Glibc
import Oracle
import Torture

private let mib = 1 << 20

extension Scenario {
  static let deadConnection = Scenario(
    name: "dead-connection", invariant: "I6",
    story: "A stalled WRITE of a client that is gone landed after a newer one that was acknowledged, and reverted it.",
    needsFaults: true
  ) { context in
    guard let faults = context.faults else { throw TortureFailure("needs --server-command") }
    let later = try NBDHandle(context.uri)
    try requireSeveralConnections(later)
    try require(later, bytes: UInt64(16 * mib))
    // Long ones: servers that do short ones at once notice the death only afterwards.
    let (offset, count) = (UInt64(mib), 8 * mib)
    try later.write(offset, pattern(1, at: offset, count))
    let diary = Diary()
    try faults.order(.holdWrite)
    let sent = diary.now
    try abandonWrite(pattern(2, at: offset, count), at: offset, context.uri, until: { faults.hasHappened(.holdWrite) })
    diary.add(
      sent: sent, answered: nil, 0, "WRITE #2", offset, count,
      "held in the server; then the client closes the connection")

    let write = PendingRequest(pattern(3, at: offset, count))
    let laterSent = diary.now
    try write.submit(later, offset: offset)
    // A server that fences lets it wait until the other one has ended.
    let end = monotonicNanoseconds() + 300_000_000
    while !write.isAnswered, monotonicNanoseconds() < end { try later.check(nbd_poll(later.raw, 20), "poll") }
    let overtook = write.isAnswered
    try faults.release()
    try later.pump { write.isAnswered }
    if write.errno != 0 { throw TortureFailure("WRITE #3 was answered with error \(write.errno)") }
    diary.add(
      sent: laterSent, answered: diary.now, 1, "WRITE #3", offset, count,
      overtook ? "ok, while #2 was held" : "ok, after #2 was let go")
    // What was held has time to land.
    usleep(300_000)
    var seen: [Run] = []
    try diary.note(1, "READ", offset, count) {
      seen = runs(try later.read(offset, count), at: offset)
      return text(seen)
    }
    let first = Int(offset) / BlockStamp.blockBytes
    if seen == [Run(first..<first + count / BlockStamp.blockBytes, .written(by: 3))] { return nil }
    return diary.finding(.linearizability, "the WRITE of a dead connection reverted a later one that was acknowledged")
  }

  static let failedSync = Scenario(
    name: "failed-sync", invariant: "I7",
    story: "After a sync that failed the next one succeeded, though what the first should have stored is lost.",
    needsFaults: true, needsNewServer: true
  ) { context in
    guard let faults = context.faults else { throw TortureFailure("needs --server-command") }
    let first = try NBDHandle(context.uri)
    try requireSeveralConnections(first)
    let second = try NBDHandle(context.uri)
    guard try first.advertised().flush else { throw TortureFailure("FLUSH is not offered") }
    try first.flush()
    let diary = Diary()
    func flush(_ handle: NBDHandle, _ connection: Int) throws -> Bool {
      try diary.attempt(connection, "FLUSH", 0, 0) { try handle.flush() }
    }
    try diary.note(0, "WRITE #1", 0, 4096) {
      try first.write(0, pattern(1, at: 0, 4096))
      return "ok"
    }
    try faults.order(.failSync)
    let hidFailure = try flush(first, 0)
    try faults.wait(for: .failSync)
    let later = [try flush(first, 0), try flush(second, 1), try flush(try NBDHandle(context.uri), 2)]
    if hidFailure { return diary.finding(.durability, "FLUSH succeeded though the sync of the file had failed") }
    if later.contains(true) {
      return diary.finding(.durability, "after a FLUSH that failed a later one succeeded, with nothing written again")
    }
    return nil
  }

  static let longZeroes = Scenario(
    name: "long-zeroes", invariant: "I2",
    story: "WRITE_ZEROES above 64 MiB was acknowledged, and only the first 64 MiB were zeroed."
  ) { context in
    let handle = try NBDHandle(context.uri)
    try require(handle, bytes: UInt64(97 * mib))
    guard try handle.advertised().zero else { throw TortureFailure("WRITE_ZEROES is not offered") }
    let diary = Diary()
    let places = [0, 32, 63, 64, 80, 95, 96].map { UInt64($0 * mib) }
    for place in places { try handle.write(place, pattern(1, at: place, 65_536)) }
    diary.add(sent: 0, answered: diary.now, 0, "WRITE #1 x \(places.count)", 0, 97 * mib, "ok; 64 KiB here and there")
    try diary.note(0, "WRITE_ZEROES", 0, 96 * mib) {
      try handle.zero(0, UInt64(96 * mib))
      return "ok"
    }
    var isRight = true
    for place in places {
      let seen = runs(try handle.read(place, 65_536), at: place)
      let blocks = Int(place) / 512..<Int(place) / 512 + 128
      let isZeroed = place < UInt64(96 * mib)
      if seen == [Run(blocks, isZeroed ? .zero : .written(by: 1))] { continue }
      isRight = false
      diary.add(sent: diary.now, answered: diary.now, 0, "READ", place, 65_536, text(seen))
    }
    return isRight
      ? nil : diary.finding(.linearizability, "WRITE_ZEROES was acknowledged and did not zero all of its range")
  }

  static let farTrim = Scenario(
    name: "far-trim", invariant: "I8",
    story: "TRIM past the middle of a file did nothing. It may, but then nobody gets the space back."
  ) { context in
    let handle = try NBDHandle(context.uri)
    try require(handle, bytes: UInt64(16 * mib))
    let facts = try handle.advertised()
    guard facts.trim else { throw TortureFailure("TRIM is not offered") }
    let diary = Diary()
    var trimmed: [Bool] = []
    for quarter in [UInt64(1), 3] {
      let offset = facts.sizeBytes / 4 * quarter / UInt64(mib) * UInt64(mib)
      try handle.write(offset, pattern(1, at: offset, mib))
      try diary.note(0, "TRIM", offset, mib) {
        try handle.trim(offset, UInt64(mib))
        return "ok"
      }
      try diary.note(0, "READ", offset, mib) {
        let seen = runs(try handle.read(offset, mib), at: offset)
        trimmed.append(seen.contains { $0.content == .zero })
        return text(seen)
      }
    }
    if trimmed[0] == trimmed[1] { return nil }
    return diary.finding(.atomicity, "the same TRIM works in one half of the export and not in the other")
  }

  /// Sends a WRITE, and closes the connection when `isHeld`, with a reply unread if there is one: to the server that is
  /// a reset, not the end of a client that has said all.
  private static func abandonWrite(
    _ bytes: [UInt8], at offset: UInt64, _ uri: String, until isHeld: () -> Bool
  ) throws {
    let handle = try NBDHandle(uri)
    let write = PendingRequest(bytes)
    try write.submit(handle, offset: offset)
    do { try handle.pump(seconds: 5, until: isHeld) } catch {
      throw TortureFailure("the server made no write that could be held: \(error)")
    }
    let reply = PendingRequest([UInt8](repeating: 0, count: 4096))
    try reply.submitRead(handle, offset: offset + UInt64(bytes.count))
    var polled = pollfd(fd: nbd_aio_get_fd(handle.raw), events: Int16(POLLIN), revents: 0)
    _ = poll(&polled, 1, 1000)
    withExtendedLifetime((write, reply)) { handle.close() }
  }
}

/// A request whose reply is not waited for.
private final class PendingRequest {
  private let buffer: UnsafeMutableRawBufferPointer
  private(set) var isAnswered = false
  private(set) var errno: Int32 = 0

  init(_ bytes: [UInt8]) {
    buffer = .allocate(byteCount: bytes.count, alignment: 4096)
    buffer.copyBytes(from: bytes)
  }

  deinit { buffer.deallocate() }

  func submit(_ handle: NBDHandle, offset: UInt64) throws {
    try handle.check(nbd_aio_pwrite(handle.raw, buffer.baseAddress!, buffer.count, offset, completion, 0), "WRITE")
  }

  func submitRead(_ handle: NBDHandle, offset: UInt64) throws {
    try handle.check(nbd_aio_pread(handle.raw, buffer.baseAddress!, buffer.count, offset, completion, 0), "READ")
  }

  private var completion: nbd_completion_callback {
    nbd_completion_callback(
      callback: { request, error in
        let request = Unmanaged<PendingRequest>.fromOpaque(request!).takeUnretainedValue()
        request.isAnswered = true
        request.errno = error?.pointee ?? 0
        return 1
      }, user_data: Unmanaged.passUnretained(self).toOpaque(), free: nil)
  }
}
