// Reads that are in flight on an io_uring, and one socket that is watched beside them. The memory that the kernel writes to
// belongs to the ring until the read has ended: it can be neither freed nor used before.

import CLinux
import SystemPackage

/// Belongs to the thread that opened it. Closed when made.
@safe package struct ReadRing: ~Copyable {
  /// What has ended.
  package enum Event {
    /// All bytes of this read are there, or it failed. `bytes(of:)` shows them until `free`.
    case read(Slot, Errno?)
    /// The watched socket has bytes, or its end, or an error. It is no longer watched.
    case socket
  }

  /// A read that has not been freed.
  package struct Slot: Equatable, Sendable {
    package let index: Int
  }

  @safe private struct Read {
    /// Has no other name; read and written only between `ended` and the next `read`.
    var memory = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    var descriptor: Int32 = -1
    var offset: UInt64 = 0
    var bytes = 0
    /// From the front.
    var doneBytes = 0
  }

  private var ring: OpaquePointer?
  private var reads: [Read] = []
  private var freeIndices: [Int] = []

  /// Reads that the kernel works on.
  package private(set) var inFlightCount = 0
  private var isWatching = false

  package init() {}

  deinit {
    precondition(inFlightCount == 0, "the kernel may write to memory that is being freed")
    for read in reads { unsafe read.memory.deallocate() }
    if let ring = unsafe ring { unsafe hf_ring_destroy(ring) }
  }

  package var isOpen: Bool { unsafe ring != nil }

  /// Reads that can be in flight at once.
  package var slotsMax: Int { reads.count }

  /// Makes the ring, for the calling thread. Throws what the kernel says when it gives none.
  package mutating func open(slotsMax: Int) throws(Errno) {
    precondition(!isOpen, "a ring is opened once")
    var made: OpaquePointer?
    // Each slot, the watch and its end may stand in the queue at the same time.
    _ = try checked(unsafe hf_ring_create(slotsMax == 0 ? 0 : UInt32(slotsMax + 2), &made))
    unsafe ring = made
    reads = Array(repeating: Read(), count: slotsMax)
    freeIndices = Array((0..<slotsMax).reversed())
  }

  /// Queues a read of `bytes` at `offset`; it begins with the next `wait`. `descriptor` stays open until it has ended.
  /// - Returns: nil when all slots are taken.
  package mutating func read(_ descriptor: Int32, at offset: UInt64, bytes: Int) -> Slot? {
    guard let index = freeIndices.popLast() else { return nil }
    let kept = unsafe reads[index].memory
    if kept.count < bytes {
      unsafe kept.deallocate()
      unsafe reads[index].memory = .allocate(byteCount: bytes, alignment: 16)
    }
    reads[index].descriptor = descriptor
    reads[index].offset = offset
    reads[index].bytes = bytes
    reads[index].doneBytes = 0
    queue(index)
    inFlightCount += 1
    return Slot(index: index)
  }

  /// Queues what is missing (I2: never from the start again).
  private mutating func queue(_ index: Int) {
    let read = reads[index]
    let queued = unsafe hf_ring_read(
      ring, read.descriptor, read.memory.baseAddress! + read.doneBytes, UInt32(read.bytes - read.doneBytes),
      read.offset + UInt64(read.doneBytes), UInt64(index))
    precondition(queued >= 0, "the queue has an entry for each slot")
  }

  /// Sleeps until something has ended, with `socket` also until it can be read. EINTR is retried.
  package mutating func wait(socket: Int32?) {
    if let socket, !isWatching {
      isWatching = true
      let queued = unsafe hf_ring_watch(ring, socket, ReadRing.watchTag)
      precondition(queued >= 0, "the queue has an entry for the watch")
    }
    submitAndWait()
  }

  private mutating func submitAndWait() {
    while true {
      let result = unsafe hf_ring_submit_and_wait(ring, 1)
      if result >= 0 { return }
      let error = Errno(rawValue: -result)
      // EAGAIN, EBUSY: short of memory for requests; what is in flight makes room.
      let isPassing =
        error == .interrupted || error == .resourceTemporarilyUnavailable || error == .resourceBusy
      precondition(isPassing, "a ring that works goes on working: \(error)")
    }
  }

  /// What has ended and was not told yet; nil when that is all.
  package mutating func next() -> Event? {
    var tag: UInt64 = 0
    var result: Int32 = 0
    while unsafe hf_ring_next(ring, &tag, &result) > 0 {
      switch tag {
      case ReadRing.watchTag:
        isWatching = false
        return .socket
      case ReadRing.unwatchTag: continue
      default: if let event = ended(Int(tag), result) { return event }
      }
    }
    return nil
  }

  private mutating func ended(_ index: Int, _ result: Int32) -> Event? {
    if result > 0 {
      reads[index].doneBytes += Int(result)
      guard reads[index].doneBytes == reads[index].bytes else {
        queue(index)
        return nil
      }
    }
    inFlightCount -= 1
    // 0 is the end of the file inside the range: it was cut by somebody.
    return .read(Slot(index: index), result > 0 ? nil : result == 0 ? .ioError : Errno(rawValue: -result))
  }

  /// What a read has brought.
  @_lifetime(borrow self)
  package func bytes(of slot: Slot) -> RawSpan {
    let read = reads[slot.index]
    let span = unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: read.memory[0..<read.bytes]))
    return unsafe _overrideLifetime(span, borrowing: self)
  }

  /// The read has ended and its bytes are not needed any more.
  package mutating func free(_ slot: Slot) {
    if unsafe reads[slot.index].memory.count > ReadRing.keptBytesMax { dropMemory(slot.index) }
    freeIndices.append(slot.index)
  }

  /// Nothing is in flight and none will be for now: stops watching, and gives memory back.
  package mutating func rest() {
    precondition(inFlightCount == 0, "a ring rests when all its reads have ended")
    // Again until it has ended: the kernel refuses while the watch looks whether what woke it is still there, and lets it go
    // on when somebody has received that in the meantime.
    while isWatching {
      let queued = unsafe hf_ring_unwatch(ring, ReadRing.watchTag, ReadRing.unwatchTag)
      precondition(queued >= 0, "the queue has an entry for the end of the watch")
      submitAndWait()
      while next() != nil {}
    }
    for index in freeIndices { dropMemory(index) }
  }

  private mutating func dropMemory(_ index: Int) {
    unsafe reads[index].memory.deallocate()
    unsafe reads[index].memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  }

  /// A slot keeps so much for the next read.
  private static let keptBytesMax = 16 * 1024

  // Beyond every index.
  private static let watchTag = UInt64.max
  private static let unwatchTag = UInt64.max - 1
}
