// Memory for large payloads and replies: recycled pieces of 256 KiB, so that 32 MiB never need one allocation and arrive
// piece by piece as their bytes do (I10).

import Locking

/// Recycles pieces. Safe from any thread.
@safe package final class PiecePool: Sendable {
  /// Bytes of a piece: large enough that a system call per piece costs little, small enough to stay in the L2 cache.
  package static let pieceBytes = 256 * 1024

  /// Pieces kept for the next request, enough for a READ of 32 MiB: new memory costs a page fault for each 4 KiB.
  private static let freeMax = 136

  private let free = Locked<[Piece]>([])

  package init() {}

  deinit { trim(keeping: 0) }

  /// Gives memory that nobody uses back to the system, down to `count` pieces.
  package func trim(keeping count: Int) {
    let surplus = free.withLock { pieces in
      let surplus = Array(pieces.dropFirst(count))
      pieces.removeLast(surplus.count)
      return surplus
    }
    for piece in surplus { piece.deallocate() }
  }

  /// Pieces that wait for the next request.
  package var freeCount: Int { free.withLock { $0.count } }

  fileprivate func take() -> Piece {
    free.withLock { $0.popLast() } ?? Piece(count: PiecePool.pieceBytes)
  }

  fileprivate func give(_ piece: Piece) {
    let isKept = free.withLock { pieces in
      guard pieces.count < PiecePool.freeMax else { return false }
      pieces.append(piece)
      return true
    }
    if !isKept { piece.deallocate() }
  }
}

/// A block of memory; whoever holds the `PieceBuffer` or pool around it is its one owner.
@safe private struct Piece: @unchecked Sendable {
  let memory: UnsafeMutableRawBufferPointer

  init(count: Int) {
    unsafe memory = .allocate(byteCount: count, alignment: count >= 4096 ? 4096 : 16)
  }

  var count: Int { unsafe memory.count }

  func deallocate() { unsafe memory.deallocate() }
}

/// A sequence of bytes in pieces, filled from the front, with exactly one owner.
///
///     |------piece------|------piece------|--rest--|
///     |=====count bytes in use=====|~~free~~~~~~~~~|
@safe package struct PieceBuffer: ~Copyable, Sendable {
  private let pool: PiecePool
  private var pieces: [Piece] = []

  /// Bytes in use.
  package private(set) var count = 0

  /// Bytes allocated.
  package private(set) var capacityBytes = 0

  /// Bytes allocated and not in use.
  package var freeBytes: Int { capacityBytes - count }

  /// Memory for exactly `capacityBytes`.
  package init(pool: PiecePool, capacityBytes: Int) {
    self.pool = pool
    grow(by: capacityBytes)
  }

  deinit {
    for piece in pieces {
      if piece.count == PiecePool.pieceBytes { pool.give(piece) } else { piece.deallocate() }
    }
  }

  /// Adds memory at the end. Only a buffer whose capacity is a multiple of `PiecePool.pieceBytes` can grow.
  package mutating func grow(by bytes: Int) {
    precondition(capacityBytes.isMultiple(of: PiecePool.pieceBytes), "only whole pieces can be followed by another")
    var rest = bytes
    while rest >= PiecePool.pieceBytes {
      pieces.append(pool.take())
      rest -= PiecePool.pieceBytes
    }
    if rest > 0 { pieces.append(Piece(count: rest)) }
    capacityBytes += bytes
  }

  /// Contiguous free memory behind the bytes in use, at most `bytesMax`; empty when the capacity is used up. Call `commit`
  /// with what was filled.
  @_lifetime(&self)
  package mutating func free(bytesMax: Int) -> MutableRawSpan {
    guard count < capacityBytes, bytesMax > 0 else { return MutableRawSpan() }
    let piece = pieces[count / PiecePool.pieceBytes]
    let start = count % PiecePool.pieceBytes
    let end = start + min(piece.count - start, bytesMax)
    let span = unsafe MutableRawSpan(_unsafeBytes: piece.memory[start..<end])
    return unsafe _overrideLifetime(span, mutating: &self)
  }

  /// Counts `bytes` of the free memory as in use.
  package mutating func commit(_ bytes: Int) {
    precondition(bytes >= 0, "bytes are not taken back by committing")
    precondition(count + bytes <= capacityBytes, "no more can be in use than was allocated")
    count += bytes
  }

  /// Copies `bytes` behind those in use. There must be room.
  package mutating func append(_ bytes: RawSpan) {
    var rest = bytes
    while rest.byteCount > 0 {
      var room = free(bytesMax: rest.byteCount)
      let n = room.byteCount
      precondition(n > 0, "no more can be in use than was allocated")
      let part = rest.extracting(first: n)
      room.copy(part)
      commit(n)
      rest = rest.extracting(droppingFirst: n)
    }
  }

  /// Appends what `encode` writes and counts: a header, at most 512 bytes.
  package mutating func appendHeader(_ encode: (inout MutableRawSpan) -> Int) {
    var scratch = InlineArray<512, UInt8>(repeating: 0)
    var bytes = scratch.mutableSpan
    var raw = unsafe bytes.mutableBytes
    let count = encode(&raw)
    append(raw.bytes.extracting(first: count))
  }

  /// The bytes in use from `offset` to the end of their piece; empty at the end.
  @_lifetime(borrow self)
  package borrowing func bytes(from offset: Int) -> RawSpan {
    guard offset < count else { return RawSpan() }
    let piece = pieces[offset / PiecePool.pieceBytes]
    let start = offset % PiecePool.pieceBytes
    let end = start + min(piece.count - start, count - offset)
    let span = unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: piece.memory[start..<end]))
    return unsafe _overrideLifetime(span, borrowing: self)
  }
}
