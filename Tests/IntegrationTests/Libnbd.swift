// libnbd in Swift clothes: a handle that throws. The error of libnbd is thread-local and lives until the next call, so it is
// taken at once, on the same thread.

import CNbd
import Glibc
import NBDClient

struct LibnbdError: Error, Equatable, CustomStringConvertible {
  var code: Int32
  var description: String
}

/// One connection; used by one thread at a time.
final class Libnbd: @unchecked Sendable {
  let handle: OpaquePointer

  init() throws {
    guard let handle = nbd_create() else { throw Libnbd.lastError() }
    self.handle = handle
    nbd_set_debug(handle, false)
  }

  deinit { nbd_close(handle) }

  /// Connected, with base:allocation; `strict` off sends what libnbd would refuse itself.
  static func connect(
    _ socket: String, export: String = "", structured: Bool = true, strict: Bool = true
  ) throws -> Libnbd {
    let nbd = try Libnbd()
    try check(nbd_set_export_name(nbd.handle, export))
    try check(nbd_set_request_structured_replies(nbd.handle, structured))
    try check(nbd_add_meta_context(nbd.handle, "base:allocation"))
    if !strict { try check(nbd_set_strict_mode(nbd.handle, 0)) }
    try check(nbd_connect_unix(nbd.handle, socket))
    return nbd
  }

  @discardableResult
  static func check<T: SignedInteger>(_ result: T) throws -> T {
    if result == -1 { throw lastError() }
    return result
  }

  private static func lastError() -> LibnbdError {
    let code = nbd_get_errno()
    return LibnbdError(code: code, description: nbd_get_error().map { String(cString: $0) } ?? "no text")
  }

  func read(_ offset: UInt64, _ count: Int, flags: UInt32 = 0) throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: count) { target, filled in
      filled = count
      try Libnbd.check(nbd_pread(handle, target.baseAddress!, count, offset, flags))
    }
  }

  func write(_ offset: UInt64, _ bytes: [UInt8], flags: UInt32 = 0) throws {
    try bytes.withUnsafeBytes { _ = try Libnbd.check(nbd_pwrite(handle, $0.baseAddress!, $0.count, offset, flags)) }
  }

  func trim(_ offset: UInt64, _ count: UInt64, flags: UInt32 = 0) throws {
    try Libnbd.check(nbd_trim(handle, count, offset, flags))
  }

  func zero(_ offset: UInt64, _ count: UInt64, flags: UInt32 = 0) throws {
    try Libnbd.check(nbd_zero(handle, count, offset, flags))
  }

  func cache(_ offset: UInt64, _ count: UInt64, flags: UInt32 = 0) throws {
    try Libnbd.check(nbd_cache(handle, count, offset, flags))
  }

  func flush(flags: UInt32 = 0) throws { try Libnbd.check(nbd_flush(handle, flags)) }

  func extents(_ offset: UInt64, _ count: UInt64, flags: UInt32 = 0) throws -> [Extent] {
    final class Box { var extents: [Extent] = [] }
    let box = Box()
    let callback = nbd_extent_callback(
      callback: { data, _, _, entries, count, _ in
        let box = Unmanaged<Box>.fromOpaque(data!).takeUnretainedValue()
        for index in stride(from: 0, to: count, by: 2) {
          box.extents.append(Extent(lengthBytes: entries![index], status: entries![index + 1]))
        }
        return 0
      }, user_data: Unmanaged.passUnretained(box).toOpaque(), free: nil)
    try withExtendedLifetime(box) { _ = try Libnbd.check(nbd_block_status(handle, count, offset, callback, flags)) }
    return box.extents
  }

  /// Reads with `nbd_pread_structured`; the ranges and kinds (LIBNBD_READ_*) of its chunks.
  func chunks(_ offset: UInt64, _ count: Int, flags: UInt32 = 0) throws -> [(range: Range<UInt64>, kind: UInt32)] {
    final class Box { var chunks: [(Range<UInt64>, UInt32)] = [] }
    let box = Box()
    var buffer = [UInt8](repeating: 0, count: count)
    let callback = nbd_chunk_callback(
      callback: { data, _, count, offset, status, _ in
        let box = Unmanaged<Box>.fromOpaque(data!).takeUnretainedValue()
        box.chunks.append((offset..<offset + UInt64(count), status))
        return 0
      }, user_data: Unmanaged.passUnretained(box).toOpaque(), free: nil)
    try withExtendedLifetime(box) {
      _ = try Libnbd.check(nbd_pread_structured(handle, &buffer, count, offset, callback, flags))
    }
    return box.chunks
  }

  func names() throws -> [String] {
    final class Box { var names: [String] = [] }
    let box = Box()
    let callback = nbd_list_callback(
      callback: { data, name, _ in
        Unmanaged<Box>.fromOpaque(data!).takeUnretainedValue().names.append(String(cString: name!))
        return 0
      }, user_data: Unmanaged.passUnretained(box).toOpaque(), free: nil)
    try withExtendedLifetime(box) { _ = try Libnbd.check(nbd_opt_list(handle, callback)) }
    return box.names
  }

  /// Drives the connection until nothing is in flight; false after `seconds` of silence.
  func drain(seconds: Int32 = 30) throws -> Bool {
    while nbd_aio_in_flight(handle) > 0 {
      if try Libnbd.check(nbd_poll(handle, seconds * 1000)) == 0 { return false }
    }
    return true
  }

  func shutdown() throws { try Libnbd.check(nbd_shutdown(handle, 0)) }
}

/// The errno that `body` fails with; 0 when it does not.
func errnoOf(_ body: () throws -> Void) -> Int32 {
  do {
    try body()
    return 0
  } catch let error as LibnbdError { return error.code } catch { return -1 }
}
