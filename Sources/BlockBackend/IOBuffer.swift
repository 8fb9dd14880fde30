// Memory that crosses threads: owned, with one owner by type.

/// Bytes on the heap with exactly one owner. Page-aligned from a page upwards. Uninitialised when made: the owner fills
/// what it hands out.
@safe package struct IOBuffer: ~Copyable, @unchecked Sendable {
  // `@unchecked` holds because the memory has no other name than this value, which cannot be copied.
  private let memory: UnsafeMutableRawBufferPointer

  /// Bytes.
  package let count: Int

  package init(count: Int) {
    unsafe memory = .allocate(byteCount: count, alignment: count >= 4096 ? 4096 : 16)
    self.count = count
  }

  /// A copy of `bytes`.
  package init(copying bytes: RawSpan) {
    self.init(count: bytes.byteCount)
    unsafe bytes.withUnsafeBytes { unsafe memory.copyMemory(from: $0) }
  }

  deinit { unsafe memory.deallocate() }

  package var bytes: RawSpan {
    @_lifetime(borrow self) get {
      unsafe _overrideLifetime(RawSpan(_unsafeBytes: UnsafeRawBufferPointer(memory)), borrowing: self)
    }
  }

  package var mutableBytes: MutableRawSpan {
    @_lifetime(&self) mutating get {
      unsafe _overrideLifetime(MutableRawSpan(_unsafeBytes: memory), mutating: &self)
    }
  }
}
