// One connection under load: keeps `depth` requests in flight until its time is over. No allocation and no lock on the way; one
// clock reading for each receive and each send.

import Glibc
import Syscalls
import SystemPackage

struct LoadLoop: ~Copyable {
  private let workload: Workload
  private let descriptor: Int32
  private let blocks: UInt64
  private let stride: UInt64
  private var random: Randomness
  private var turn = 0

  /// When the request of a slot (its cookie) was sent.
  private let sentAt: UnsafeMutableBufferPointer<Int64>
  /// Whether data follows a simple reply to it.
  private let expectsData: UnsafeMutableBufferPointer<Bool>
  /// The header of each slot's request.
  private let headers: UnsafeMutableRawPointer
  /// What is to be sent, in order: headers, and between them the one payload that all writes share.
  private let pieces: UnsafeMutablePointer<iovec>
  private var pieceCount = 0
  private let payload: UnsafeMutableRawPointer
  private let inbox: UnsafeMutableRawPointer
  private let inboxBytes: Int
  /// Bytes at the front of `inbox` that are not parsed: the start of a header.
  private var unparsed = 0
  /// Data of a reply that is still to come.
  private var dataToSkip = 0
  /// The chunk that the data belongs to ends its reply when this is a cookie.
  private var endsWithData: UInt64?
  private var inFlight = 0
  /// Requests that this run may still send.
  private var allowed = Int.max

  init(_ workload: Workload, descriptor: Int32, exportBytes: UInt64, seed: UInt64) throws {
    let depth = workload.depth
    guard exportBytes >= UInt64(workload.blockBytes) else { throw BenchError("the export is smaller than a block") }
    let stride = workload.strideBytes ?? UInt64(workload.blockBytes)
    let places = (workload.spanBytes ?? exportBytes - min(exportBytes, workload.firstByte)) / stride
    guard places > 0, workload.firstByte + places * stride <= exportBytes else {
      throw BenchError("the export has no \(places) places of \(stride) bytes from \(workload.firstByte)")
    }
    self.stride = stride
    self.workload = workload
    self.descriptor = descriptor
    blocks = workload.mix == .wtz ? min(64, places) : min(places, UInt64(UInt32.max))
    random = Randomness(seed: seed)
    sentAt = .allocate(capacity: depth)
    expectsData = .allocate(capacity: depth)
    headers = .allocate(byteCount: depth * Wire.requestBytes, alignment: 8)
    pieces = .allocate(capacity: 2 * depth)
    payload = .allocate(byteCount: workload.blockBytes, alignment: 4096)
    for index in 0..<workload.blockBytes {
      payload.storeBytes(of: UInt8(truncatingIfNeeded: index &* 31 &+ 1), toByteOffset: index, as: UInt8.self)
    }
    inboxBytes = 1 << 20
    inbox = .allocate(byteCount: inboxBytes, alignment: 4096)
  }

  deinit {
    sentAt.deallocate()
    expectsData.deallocate()
    headers.deallocate()
    pieces.deallocate()
    payload.deallocate()
    inbox.deallocate()
  }

  /// Runs for `seconds` or for `operations`, whichever ends first, then until everything sent is answered.
  mutating func run(seconds: Double, operations: Int = .max) throws -> LoadResult {
    var result = LoadResult()
    allowed = operations
    let start = MonotonicClock.nanoseconds
    let end = start + Int64(seconds * 1e9)
    for slot in 0..<min(workload.depth, operations) { try issue(UInt64(slot), now: start) }
    try send()
    var now = start
    while inFlight > 0 {
      if pieceCount > 0, try !waitForReplies() { continue }
      let received = try receive()
      now = MonotonicClock.nanoseconds
      let refills = now < end
      try parse(unparsed + received, now: now, refills: refills, into: &result)
      try send()
    }
    result.seconds = Double(now - start) / 1e9
    return result
  }

  // MARK: Requests

  private mutating func issue(_ slot: UInt64, now: Int64) throws {
    let offset = workload.firstByte &+ random.next(below: blocks) &* stride
    let length = UInt32(workload.blockBytes)
    let header = headers + Int(slot) * Wire.requestBytes
    var carries = false
    switch workload.mix {
    case .randread: header.putRequest(.read, cookie: slot, offset: offset, length: length)
    case .randwrite:
      header.putRequest(.write, cookie: slot, offset: offset, length: length)
      carries = true
    case .rw70:
      carries = random.next(below: 10) >= 7
      header.putRequest(carries ? .write : .read, cookie: slot, offset: offset, length: length)
    case .fua:
      header.putRequest(.write, flags: Wire.flagFUA, cookie: slot, offset: offset, length: length)
      carries = true
    case .flush: header.putRequest(.flush, cookie: slot, offset: 0, length: 0)
    case .trim: header.putRequest(.trim, cookie: slot, offset: offset, length: length)
    case .zero: header.putRequest(.writeZeroes, cookie: slot, offset: offset, length: length)
    case .wtz:
      carries = turn % 3 == 0
      let command: Command = carries ? .write : turn % 3 == 1 ? .trim : .writeZeroes
      header.putRequest(command, cookie: slot, offset: offset, length: length)
      turn &+= 1
    case .wf:
      carries = turn % 2 == 0
      if carries {
        header.putRequest(.write, cookie: slot, offset: offset, length: length)
      } else {
        header.putRequest(.flush, cookie: slot, offset: 0, length: 0)
      }
      turn &+= 1
    }
    append(header, Wire.requestBytes)
    if carries { append(payload, workload.blockBytes) }
    sentAt[Int(slot)] = now
    expectsData[Int(slot)] = workload.mix == .randread || workload.mix == .rw70 && !carries
    inFlight += 1
    allowed -= 1
    if workload.sendsEach { try send() }
  }

  private mutating func append(_ bytes: UnsafeMutableRawPointer, _ count: Int) {
    if pieceCount > 0, let base = pieces[pieceCount - 1].iov_base, base + pieces[pieceCount - 1].iov_len == bytes {
      pieces[pieceCount - 1].iov_len += count
    } else {
      pieces[pieceCount] = iovec(iov_base: bytes, iov_len: count)
      pieceCount += 1
    }
  }

  /// Sends all pieces, or what the socket takes when the server may be waiting for us to read meanwhile.
  private mutating func send() throws {
    let flags = Int32(MSG_NOSIGNAL) | (workload.mix.sendsMayWait ? 0 : Int32(MSG_DONTWAIT))
    var first = 0
    while first < pieceCount {
      var message = msghdr()
      message.msg_iov = pieces + first
      message.msg_iovlen = min(pieceCount - first, 1024)
      let sent = sendmsg(descriptor, &message, flags)
      if sent < 0, errno == EINTR { continue }
      if sent < 0, errno == EAGAIN { break }
      guard sent >= 0 else { throw BenchError("send: \(Errno(rawValue: errno))") }
      first = advance(from: first, by: sent)
    }
    if first > 0, first < pieceCount {
      memmove(pieces, pieces + first, (pieceCount - first) * MemoryLayout<iovec>.stride)
    }
    pieceCount -= first
  }

  /// The first piece of which something is left.
  private func advance(from piece: Int, by sent: Int) -> Int {
    var (piece, left) = (piece, sent)
    while left > 0 {
      let length = pieces[piece].iov_len
      guard left >= length else {
        pieces[piece].iov_base += left
        pieces[piece].iov_len -= left
        return piece
      }
      left -= length
      piece += 1
    }
    return piece
  }

  /// Sends what the socket takes; true when there is something to receive.
  private mutating func waitForReplies() throws -> Bool {
    var wait = pollfd(fd: descriptor, events: Int16(POLLIN | POLLOUT), revents: 0)
    guard poll(&wait, 1, 30_000) != 0 else { throw BenchError("the server neither takes nor answers for 30 s") }
    if wait.revents & Int16(POLLOUT) != 0 { try send() }
    return wait.revents & Int16(POLLIN | POLLHUP | POLLERR) != 0
  }

  // MARK: Replies

  private func receive() throws -> Int {
    while true {
      let received = recv(descriptor, inbox + unparsed, inboxBytes - unparsed, 0)
      if received > 0 { return received }
      if received < 0, errno == EINTR { continue }
      throw BenchError(received == 0 ? "the server closed the connection" : "recv: \(Errno(rawValue: errno))")
    }
  }

  private mutating func parse(_ total: Int, now: Int64, refills: Bool, into result: inout LoadResult) throws {
    var at = 0
    while true {
      if dataToSkip > 0 {
        let skipped = min(dataToSkip, total - at)
        at += skipped
        dataToSkip -= skipped
        if dataToSkip > 0 { break }
      }
      if let cookie = endsWithData {
        endsWithData = nil
        try finish(cookie, now: now, refills: refills, into: &result)
      }
      guard let headerBytes = try parseHeader(inbox + at, total - at, into: &result) else { break }
      at += headerBytes
    }
    unparsed = total - at
    if unparsed > 0, at > 0 { memmove(inbox, inbox + at, unparsed) }
  }

  /// Bytes of the header at `bytes`, nil when it is not complete.
  private mutating func parseHeader(
    _ bytes: UnsafeMutableRawPointer, _ count: Int, into result: inout LoadResult
  ) throws -> Int? {
    guard count >= Wire.simpleReplyBytes else { return nil }
    let header = UnsafeRawPointer(bytes)
    let cookie: UInt64 = header.number(at: 8)
    guard cookie < UInt64(workload.depth) else { throw BenchError("a reply to nothing that was asked") }
    switch header.number(at: 0, as: UInt32.self) {
    case Wire.simpleReplyMagic:
      let failed = header.number(at: 4, as: UInt32.self) != 0
      if failed { result.errors += 1 } else if expectsData[Int(cookie)] { dataToSkip = workload.blockBytes }
      endsWithData = cookie
      return Wire.simpleReplyBytes
    case Wire.chunkMagic:
      guard count >= Wire.chunkHeaderBytes else { return nil }
      let flags: UInt16 = header.number(at: 4)
      let type: UInt16 = header.number(at: 6)
      if type & Wire.chunkIsError != 0 { result.errors += 1 }
      dataToSkip = Int(header.number(at: 16, as: UInt32.self))
      endsWithData = flags & Wire.chunkDone != 0 ? cookie : nil
      return Wire.chunkHeaderBytes
    default: throw BenchError("a reply with the wrong magic")
    }
  }

  private mutating func finish(_ slot: UInt64, now: Int64, refills: Bool, into result: inout LoadResult) throws {
    result.operations += 1
    result.latency.add(UInt64(max(0, now - sentAt[Int(slot)])))
    inFlight -= 1
    if refills, allowed > 0 { try issue(slot, now: now) }
  }
}
