// One place for a request in flight: its buffer, and what the callbacks of libnbd leave there. All on the thread of its
// connection.

import CNbd
import Glibc
import Oracle
import Torture

final class Slot {
  var request: Request
  private(set) var isBusy = false
  /// The callback has come.
  var isAnswered = false
  private let buffer: UnsafeMutableRawBufferPointer
  private let events: EventCounter
  private let start: Int64

  init(bytes: Int, events: EventCounter, start: Int64) {
    buffer = .allocate(byteCount: bytes, alignment: 4096)
    self.events = events
    self.start = start
    request = Request(id: 0, verb: .flush, blocks: 0..<0, connection: 0)
  }

  deinit { buffer.deallocate() }

  /// - Returns: false when the connection is dead; the request counts as sent.
  func send(_ next: Request, over handle: OpaquePointer) -> Bool {
    request = next
    isBusy = true
    isAnswered = false
    let offset = UInt64(next.blocks.lowerBound * BlockStamp.blockBytes)
    let count = next.blocks.count * BlockStamp.blockBytes
    if next.verb == .write {
      BlockStamp.fill(
        UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]), id: next.id, first: next.blocks.lowerBound)
    } else if next.verb == .read {
      // What was here before is not what is read.
      memset(buffer.baseAddress!, Int32(NBDHandle.unfilled), count)
    }
    let done = nbd_completion_callback(
      callback: { slot, error in Slot.of(slot).answered(error?.pointee ?? 0) },
      user_data: Unmanaged.passUnretained(self).toOpaque(), free: nil)
    var flags: UInt32 = next.fua ? LIBNBD_CMD_FLAG_FUA : 0
    if next.noHole { flags |= LIBNBD_CMD_FLAG_NO_HOLE }
    request.sentAt = monotonicNanoseconds() - start
    request.invoked = events.next()
    let cookie =
      switch next.verb {
      case .read: nbd_aio_pread(handle, buffer.baseAddress!, count, offset, done, 0)
      case .write: nbd_aio_pwrite(handle, buffer.baseAddress!, count, offset, done, flags)
      case .trim: nbd_aio_trim(handle, UInt64(count), offset, done, flags)
      case .zero: nbd_aio_zero(handle, UInt64(count), offset, done, flags)
      case .flush: nbd_aio_flush(handle, done, 0)
      case .status: nbd_aio_block_status(handle, UInt64(count), offset, extents(), done, 0)
      }
    return cookie >= 0
  }

  private func extents() -> nbd_extent_callback {
    nbd_extent_callback(
      callback: { slot, _, _, entries, count, _ in
        if let entries { Slot.of(slot).found(UnsafeBufferPointer(start: entries, count: count)) }
        return 0
      }, user_data: Unmanaged.passUnretained(self).toOpaque(), free: nil)
  }

  private static func of(_ pointer: UnsafeMutableRawPointer?) -> Slot {
    Unmanaged<Slot>.fromOpaque(pointer!).takeUnretainedValue()
  }

  private func answered(_ error: Int32) -> Int32 {
    request.completed = events.next()
    request.answeredAt = monotonicNanoseconds() - start
    request.errno = error
    isAnswered = true
    // libnbd forgets it.
    return 1
  }

  private func found(_ entries: UnsafeBufferPointer<UInt32>) {
    let size = BlockStamp.blockBytes
    // The region begins at a block, so places in the request are enough.
    var at = 0
    for index in stride(from: 0, to: entries.count - 1, by: 2) {
      let end = at + Int(entries[index])
      // A hole that is not said to read as zeroes says nothing about its contents.
      if entries[index + 1] & UInt32(LIBNBD_STATE_ZERO) != 0 {
        let first = request.blocks.lowerBound + (at + size - 1) / size
        let last = min(request.blocks.lowerBound + end / size, request.blocks.upperBound)
        if first < last { request.holes.append(first..<last) }
      }
      at = end
    }
  }

  /// The record of an answered request, or of one that will not be answered any more; the slot is free then.
  func take() -> Request {
    isBusy = false
    if request.verb == .read, request.succeeded {
      let count = request.blocks.count * BlockStamp.blockBytes
      request.seen = BlockStamp.runs(
        in: UnsafeRawBufferPointer(rebasing: buffer[..<count]), first: request.blocks.lowerBound)
    }
    return request
  }
}
