// One connection through libnbd, used by one thread. Errors of libnbd are thread-local and are taken at once.

import CNbd
import Glibc

/// The run cannot be judged: a server that is not there, refuses, or went silent.
struct TortureFailure: Error, CustomStringConvertible {
  var description: String
  /// A request was answered with an error, over a connection that lives on.
  var isAnswer = false

  init(_ description: String) { self.description = description }
}

/// What a server said of an export.
struct Advertised: Sendable, Equatable {
  var sizeBytes: UInt64
  var blockBytesMin: Int
  var payloadBytesMax: Int
  var isReadOnly: Bool
  var flush: Bool
  var fua: Bool
  var trim: Bool
  var zero: Bool
  var status: Bool
  var multiConnection: Bool
}

final class NBDHandle {
  /// How long a server may take for an answer, or to let a client in.
  static let answerSecondsMax = 60.0

  let raw: OpaquePointer
  private var isClosed = false

  /// Connected, in transmission.
  init(_ uri: String, seconds: Double = answerSecondsMax) throws {
    guard let raw = nbd_create() else { throw NBDHandle.failure("nbd_create") }
    self.raw = raw
    nbd_set_debug(raw, false)
    nbd_set_pread_initialize(raw, false)
    nbd_add_meta_context(raw, "base:allocation")
    nbd_set_uri_allow_local_file(raw, true)
    let what = "cannot connect to \(uri)"
    try check(nbd_aio_connect_uri(raw, uri), what)
    try pump(what, seconds: seconds) { nbd_aio_is_connecting(raw) != 1 }
    guard nbd_aio_is_ready(raw) == 1 else { throw NBDHandle.failure(what) }
  }

  deinit {
    if !isClosed, nbd_aio_is_ready(raw) == 1 { sayGoodbye() }
    close()
  }

  /// A server that lets in one client at a time shall have seen the end of this one before the next one comes. Not through
  /// libnbd: it aborts when the server is killed just then.
  private func sayGoodbye() {
    let descriptor = nbd_aio_get_fd(raw)
    guard nbd_aio_in_flight(raw) == 0, descriptor >= 0, shutdown(descriptor, Int32(SHUT_WR)) == 0 else { return }
    var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    _ = poll(&polled, 1, 1000)
  }

  /// At once, whatever is in flight. Nothing may be sent afterwards.
  func close() {
    guard !isClosed else { return }
    nbd_close(raw)
    isClosed = true
  }

  static func failure(_ what: String) -> TortureFailure {
    TortureFailure("\(what): \(nbd_get_error().map { String(cString: $0) } ?? "no reason given")")
  }

  /// A call that fails only when the connection or the request does.
  @discardableResult
  func check<T: SignedInteger>(_ result: T, _ what: String) throws -> T {
    if result == -1 { throw NBDHandle.failure(what) }
    return result
  }

  func advertised() throws -> Advertised {
    func can(_ result: Int32) -> Bool { result == 1 }
    let minimum = nbd_get_block_size(raw, Int32(LIBNBD_SIZE_MINIMUM))
    let maximum = nbd_get_block_size(raw, Int32(LIBNBD_SIZE_MAXIMUM))
    return Advertised(
      sizeBytes: UInt64(try check(nbd_get_size(raw), "size")),
      blockBytesMin: minimum > 0 ? Int(minimum) : 1,
      payloadBytesMax: maximum > 0 ? Int(min(maximum, 64 << 20)) : 32 << 20,
      isReadOnly: can(nbd_is_read_only(raw)), flush: can(nbd_can_flush(raw)), fua: can(nbd_can_fua(raw)),
      trim: can(nbd_can_trim(raw)), zero: can(nbd_can_zero(raw)),
      status: can(nbd_can_meta_context(raw, "base:allocation")), multiConnection: can(nbd_can_multi_conn(raw)))
  }

  // MARK: - One at a time

  func read(_ offset: UInt64, _ count: Int) throws -> [UInt8] {
    // What is not filled is no content that anybody wrote.
    var bytes = [UInt8](repeating: NBDHandle.unfilled, count: count)
    try bytes.withUnsafeMutableBytes { target in
      try answer("READ of \(count) bytes at \(offset)") {
        nbd_aio_pread(raw, target.baseAddress!, count, offset, NBDHandle.noCallback, 0)
      }
    }
    return bytes
  }

  func write(_ offset: UInt64, _ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { source in
      try answer("WRITE of \(source.count) bytes at \(offset)") {
        nbd_aio_pwrite(raw, source.baseAddress!, source.count, offset, NBDHandle.noCallback, 0)
      }
    }
  }

  func trim(_ offset: UInt64, _ count: UInt64) throws {
    try answer("TRIM of \(count) bytes at \(offset)") { nbd_aio_trim(raw, count, offset, NBDHandle.noCallback, 0) }
  }

  func zero(_ offset: UInt64, _ count: UInt64, flags: UInt32 = 0) throws {
    try answer("WRITE_ZEROES of \(count) bytes at \(offset)") {
      nbd_aio_zero(raw, count, offset, NBDHandle.noCallback, flags)
    }
  }

  func flush() throws { try answer("FLUSH") { nbd_aio_flush(raw, NBDHandle.noCallback, 0) } }

  /// What a buffer is filled with before a READ.
  static let unfilled: UInt8 = 0xa5
  private static var noCallback: nbd_completion_callback { .init(callback: nil, user_data: nil, free: nil) }

  private func answer(_ what: String, _ submit: () -> Int64) throws {
    guard !isClosed else { throw TortureFailure("\(what): the connection is closed") }
    let cookie = UInt64(try check(submit(), what))
    var result: Int32 = 0
    do {
      try pump(what) {
        result = nbd_aio_command_completed(raw, cookie)
        return result != 0
      }
    } catch {
      // It must not touch the buffer any more.
      close()
      throw error
    }
    guard result == -1 else { return }
    var failure = NBDHandle.failure(what)
    failure.isAnswer = nbd_aio_is_ready(raw) == 1 || nbd_aio_is_processing(raw) == 1
    throw failure
  }

  /// Drives the connection until `isDone`.
  func pump(
    _ what: String = "waiting for a reply", seconds: Double = answerSecondsMax, until isDone: () -> Bool
  ) throws {
    guard !isClosed else { throw TortureFailure("\(what): the connection is closed") }
    let end = monotonicNanoseconds() + Int64(seconds * 1e9)
    while !isDone() {
      guard monotonicNanoseconds() < end else { throw TortureFailure("\(what): no answer for \(Int(seconds)) s") }
      try check(nbd_poll(raw, 100), what)
    }
  }
}

func monotonicNanoseconds() -> Int64 {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
}
