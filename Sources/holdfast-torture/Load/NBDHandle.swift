// One connection through libnbd, used by one thread. Errors of libnbd are thread-local and are taken at once.

import CNbd
import Glibc

/// The run cannot be judged: a server that is not there, refuses, or went silent.
struct TortureFailure: Error, CustomStringConvertible {
  var description: String

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
  let raw: OpaquePointer
  private var isClosed = false

  /// Connected, in transmission.
  init(_ uri: String) throws {
    guard let raw = nbd_create() else { throw NBDHandle.failure("nbd_create") }
    self.raw = raw
    nbd_set_debug(raw, false)
    nbd_set_pread_initialize(raw, false)
    nbd_add_meta_context(raw, "base:allocation")
    nbd_set_uri_allow_local_file(raw, true)
    guard nbd_connect_uri(raw, uri) == 0 else {
      // The caller gets no object whose deinit would close it.
      let failure = NBDHandle.failure("cannot connect to \(uri)")
      throw failure
    }
  }

  deinit { if !isClosed { nbd_close(raw) } }

  /// At once, whatever is in flight. Nothing may be called afterwards.
  func close() {
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
    try [UInt8](unsafeUninitializedCapacity: count) { target, filled in
      try check(nbd_pread(raw, target.baseAddress!, count, offset, 0), "READ of \(count) bytes at \(offset)")
      filled = count
    }
  }

  func write(_ offset: UInt64, _ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes {
      _ = try check(
        nbd_pwrite(raw, $0.baseAddress!, $0.count, offset, 0), "WRITE of \($0.count) bytes at \(offset)")
    }
  }

  func trim(_ offset: UInt64, _ count: UInt64) throws {
    try check(nbd_trim(raw, count, offset, 0), "TRIM of \(count) bytes at \(offset)")
  }

  func zero(_ offset: UInt64, _ count: UInt64, flags: UInt32 = 0) throws {
    try check(nbd_zero(raw, count, offset, flags), "WRITE_ZEROES of \(count) bytes at \(offset)")
  }

  func flush() throws { try check(nbd_flush(raw, 0), "FLUSH") }

  /// Drives the connection until `isDone`.
  func pump(seconds: Double = 60, until isDone: () -> Bool) throws {
    let end = monotonicNanoseconds() + Int64(seconds * 1e9)
    while !isDone() {
      guard monotonicNanoseconds() < end else { throw TortureFailure("no reply for \(Int(seconds)) s") }
      try check(nbd_poll(raw, 100), "waiting for a reply")
    }
  }
}

func monotonicNanoseconds() -> Int64 {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
}
