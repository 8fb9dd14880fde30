// Where the file system has allocated storage for a file, many extents in one call.

import CLinux
import SystemPackage

/// The answer of one FIEMAP call, in memory that is used again for the next.
@safe package struct MappedExtents: ~Copyable {
  /// Storage that is allocated, or promised to what has not been written back yet.
  package struct Element {
    /// In the file, bytes.
    package var offset: UInt64
    package var lengthBytes: UInt64
    /// FIEMAP_EXTENT_UNWRITTEN: it reads as zeroes, but for what lies in the page cache and was not written back.
    package var isUnwritten: Bool
    /// FIEMAP_EXTENT_LAST: behind it the file has no storage.
    package var isLast: Bool
  }

  // One owner: this value, which cannot be copied.
  private let memory: UnsafeMutableRawPointer
  private let countMax: UInt32

  package private(set) var count = 0

  /// Room for `countMax` extents.
  package init(countMax: Int) {
    self.countMax = UInt32(countMax)
    unsafe memory = .allocate(
      byteCount: Int(HF_MAP_HEADER_BYTES) + countMax * Int(HF_MAP_EXTENT_BYTES), alignment: 16)
  }

  deinit { unsafe memory.deallocate() }

  /// There may be more than these.
  package var isFull: Bool { count == Int(countMax) }

  /// Asks for the extents that `range` touches, as many as there is room for, in ascending order; the outer ones may reach
  /// beyond it. Writes nothing back first (no FIEMAP_FLAG_SYNC). Does not use the file offset.
  package mutating func load(_ fd: Int32, _ range: Range<UInt64>) throws(Errno) {
    count = 0
    let length = range.upperBound - range.lowerBound
    count = Int(try Files.check(unsafe hf_map_extents(fd, range.lowerBound, length, memory, countMax)))
  }

  package subscript(index: Int) -> Element {
    precondition(index >= 0 && index < count, "only extents that were found can be looked at")
    let extent = unsafe hf_mapped_extent(memory, UInt32(index))
    return Element(
      offset: extent.offset, lengthBytes: extent.length,
      isUnwritten: extent.flags & UInt32(HF_EXTENT_UNWRITTEN) != 0,
      isLast: extent.flags & UInt32(HF_EXTENT_LAST) != 0)
  }
}
