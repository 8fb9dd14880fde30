// The five stories of corruption that Holdfast exists for (I1 to I5).

import CNbd
import Glibc
import Oracle
import Torture

private let kib = 1 << 10
private let mib = 1 << 20

extension Scenario {
  static let movingOffset = Scenario(
    name: "moving-offset", invariant: "I1",
    story: "Probes for holes moved the file offset under a reader of the same descriptor (wic's FilemapSeek)."
  ) { context in
    // READs long enough to be looked up for holes, beside many status requests.
    try load(
      context, requests: 1500, regionBytes: 4 * mib, lengths: 64 * kib...256 * kib,
      mix: [.read: 6, .write: 2, .trim: 1, .zero: 1, .status: 5])
  }

  static let shortWrite = Scenario(
    name: "short-write", invariant: "I2",
    story: "After a short write the rest was written as if it were the start again (io_uring and O_APPEND on XFS).",
    needsFaults: true
  ) { context in
    guard let faults = context.faults else { throw TortureFailure("needs --server-command") }
    let diary = Diary()
    let writer = try NBDHandle(context.uri)
    try requireSeveralConnections(writer)
    let reader = try NBDHandle(context.uri)
    try require(writer, bytes: UInt64(2 * mib))
    let size = try writer.advertised().sizeBytes
    let (offset, count) = (UInt64(mib), 256 * kib)
    try writer.zero(0, UInt64(2 * mib))
    try faults.order(.shortWrite)
    try diary.note(0, "WRITE #7", offset, count) {
      try writer.write(offset, pattern(7, at: offset, count))
      return "ok; the kernel took a half"
    }
    guard faults.hasHappened(.shortWrite) else { throw TortureFailure("the server made no write that could be cut") }
    var seen: [Run] = []
    try diary.note(1, "READ", 0, 2 * mib) {
      seen = runs(try reader.read(0, 2 * mib), at: 0)
      return text(seen)
    }
    let first = Int(offset) / BlockStamp.blockBytes
    let written = first..<first + count / BlockStamp.blockBytes
    let expected = [
      Run(0..<first, .zero), Run(written, .written(by: 7)),
      Run(written.upperBound..<2 * mib / BlockStamp.blockBytes, .zero),
    ]
    let sizeNow = try NBDHandle(context.uri).advertised().sizeBytes
    if seen == expected, size == sizeNow { return nil }
    return diary.finding(.linearizability, "a WRITE that was acknowledged is not at its place, once and whole")
  }

  static let staleLayout = Scenario(
    name: "stale-layout", invariant: "I3",
    story: "A map of extents went stale between look-up and use (XFS iomap; nbdkit's cacheextents)."
  ) { context in
    // READs over holes and data, with WRITEs that fill the holes and zeroes that make them.
    try load(
      context, requests: 1200, regionBytes: 2 * mib, lengths: 64 * kib...1 * mib,
      mix: [.read: 6, .write: 3, .zero: 3, .status: 3])
  }

  static let punchedReply = Scenario(
    name: "punched-reply", invariant: "I4",
    story: "Bytes that had been read turned into zeroes on the way to the client (splice, then FALLOC_FL_PUNCH_HOLE)."
  ) { context in
    let (piece, count) = (mib, 16)
    let reader = try NBDHandle(context.uri)
    try requireSeveralConnections(reader)
    let other = try NBDHandle(context.uri)
    try require(other, bytes: UInt64(piece * count))
    guard try other.advertised().zero else { throw TortureFailure("WRITE_ZEROES is not offered") }
    let canFlush = try other.advertised().flush
    for index in 0..<count {
      let offset = UInt64(index * piece)
      try other.write(offset, pattern(1, at: offset, piece))
    }
    // What is dirty is not sent from the page cache by everybody.
    if canFlush { try other.flush() }
    let diary = Diary()
    let replies = Replies(count: count, bytes: piece)
    for index in 0..<count { try replies.submit(index, reader, offset: UInt64(index * piece)) }
    diary.add(sent: 0, answered: nil, 0, "READ x \(count)", 0, piece * count, "the client does not receive yet")
    // The first replies fill the socket.
    try replies.waitUntilReadable(reader)
    usleep(50_000)
    // All but the edges: what is not dropped from the page cache is zeroed in place there.
    let edge = 4096
    try diary.note(1, "WRITE_ZEROES x \(count)", 0, piece * count) {
      for index in 0..<count { try other.zero(UInt64(index * piece + edge), UInt64(piece - 2 * edge)) }
      return "ok; in each MiB all but 4096 bytes at both ends"
    }
    try reader.pump { replies.answered == count }
    if replies.errno != 0 { throw TortureFailure("a READ was answered with error \(replies.errno)") }
    let size = BlockStamp.blockBytes
    for index in 0..<count {
      let offset = UInt64(index * piece)
      let blocks = index * piece / size..<(index + 1) * piece / size
      let old = [Run(blocks, .written(by: 1))]
      let inner = blocks.lowerBound + edge / size..<blocks.upperBound - edge / size
      let new = [
        Run(blocks.lowerBound..<inner.lowerBound, .written(by: 1)), Run(inner, .zero),
        Run(inner.upperBound..<blocks.upperBound, .written(by: 1)),
      ]
      let seen = runs(replies.bytes(index), at: offset)
      if seen == old || seen == new { continue }
      diary.add(sent: 0, answered: diary.now, 0, "READ", offset, piece, text(seen))
      return diary.finding(.atomicity, "a READ found neither what was there before nor what was there afterwards")
    }
    return nil
  }

  static let overtakenWrite = Scenario(
    name: "overtaken-write", invariant: "I5",
    story: "A write in flight was overtaken by a discard of the same range (qemu's qcow2)."
  ) { context in
    try load(
      context, requests: 1000, regionBytes: 2 * mib, lengths: 64 * kib...1 * mib,
      mix: [.read: 5, .write: 4, .trim: 2, .zero: 2])
  }
}

/// READs whose replies are not received until somebody asks for them.
private final class Replies {
  private let buffers: [UnsafeMutableRawBufferPointer]
  private(set) var answered = 0
  /// The last error of any.
  private(set) var errno: Int32 = 0

  init(count: Int, bytes: Int) {
    buffers = (0..<count).map { _ in .allocate(byteCount: bytes, alignment: 4096) }
    for buffer in buffers { memset(buffer.baseAddress!, Int32(NBDHandle.unfilled), bytes) }
  }

  deinit { for buffer in buffers { buffer.deallocate() } }

  func submit(_ index: Int, _ handle: NBDHandle, offset: UInt64) throws {
    let done = nbd_completion_callback(
      callback: { replies, error in
        let replies = Unmanaged<Replies>.fromOpaque(replies!).takeUnretainedValue()
        replies.answered += 1
        if let error = error?.pointee, error != 0 { replies.errno = error }
        return 1
      }, user_data: Unmanaged.passUnretained(self).toOpaque(), free: nil)
    let buffer = buffers[index]
    try handle.check(nbd_aio_pread(handle.raw, buffer.baseAddress!, buffer.count, offset, done, 0), "READ")
  }

  func waitUntilReadable(_ handle: NBDHandle) throws {
    var polled = pollfd(fd: nbd_aio_get_fd(handle.raw), events: Int16(POLLIN), revents: 0)
    guard poll(&polled, 1, 10_000) == 1 else { throw TortureFailure("no reply for 10 s") }
  }

  func bytes(_ index: Int) -> [UInt8] { Array(buffers[index]) }
}
