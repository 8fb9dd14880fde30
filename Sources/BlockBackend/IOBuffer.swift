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
    var span = mutableBytes
    span.copy(bytes)
  }

  /// `count` zeroes.
  package init(zeroes count: Int) {
    self.init(count: count)
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0)
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

  /// Part of the memory, for writing.
  @_lifetime(&self)
  package mutating func mutableBytes(in range: Range<Int>) -> MutableRawSpan {
    precondition(range.lowerBound >= 0, "a part begins inside")
    precondition(range.upperBound <= count, "a part ends inside")
    return unsafe _overrideLifetime(MutableRawSpan(_unsafeBytes: memory[range]), mutating: &self)
  }
}

extension MutableRawSpan {
  /// Copies all of `bytes` to the front.
  @_lifetime(self: copy self)
  package mutating func copy(_ bytes: RawSpan) {
    precondition(bytes.byteCount <= byteCount, "what is copied has to fit")
    unsafe withUnsafeMutableBytes { target in unsafe bytes.withUnsafeBytes { unsafe target.copyMemory(from: $0) } }
  }

  /// Moves `range` to the front.
  @_lifetime(self: copy self)
  package mutating func moveToFront(_ range: Range<Int>) {
    precondition(range.upperBound <= byteCount, "what is moved lies inside")
    unsafe withUnsafeMutableBytes { bytes in
      unsafe bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[range]))
    }
  }
}

extension [UInt8] {
  /// The bytes as a raw span.
  package var rawBytes: RawSpan {
    @_lifetime(borrow self) get { unsafe span.bytes }
  }
}
