// How long zeroing is cut.

import BlockBackend
import Testing

@Suite struct SliceSizeTests {
  @Test func quickSlicesGrowAndSlowOnesShrinkWithinBounds() {
    var slice = SliceSize()
    #expect(slice.bytes == 1 << 20)
    slice.adapt(to: .microseconds(500))
    #expect(slice.bytes == 1 << 20)
    slice.adapt(to: .microseconds(50))
    #expect(slice.bytes == 2 << 20)
    slice.adapt(to: .milliseconds(5))
    #expect(slice.bytes == 1 << 20)
    for _ in 0..<100 { slice.adapt(to: .seconds(1)) }
    #expect(slice.bytes == SliceSize.minBytes)
    for _ in 0..<100 { slice.adapt(to: .zero) }
    #expect(slice.bytes == SliceSize.maxBytes)
  }

  @Test func aSliceAlwaysMovesOn() {
    var slice = SliceSize()
    for _ in 0..<5 { slice.adapt(to: .seconds(1)) }
    for offset: UInt64 in [0, 1, SliceSize.minBytes - 1, SliceSize.minBytes, 5 << 30 | 4095] {
      for length: UInt64 in [1, SliceSize.minBytes, SliceSize.minBytes + 1, 1 << 40] {
        let end = slice.end(from: offset, limit: offset + length)
        #expect(end > offset && end <= offset + length)
      }
    }
  }

  /// A device that takes 2 ms for each call gets few of them, and no slice is shorter than its unit.
  @Test func devicesGetLongSlices() {
    var slice = SliceSize.ofDevice(unitBytes: 4 << 20)
    #expect(slice.bytes == 8 << 20)
    for _ in 0..<100 { slice.adapt(to: .milliseconds(2)) }
    #expect(slice.bytes == 1 << 30)
    for _ in 0..<100 { slice.adapt(to: .seconds(1)) }
    #expect(slice.bytes == 4 << 20)
    #expect(SliceSize.ofLocalFile(unitBytes: 4 << 20).end(from: 4096, limit: 1 << 40) == 4 << 20)
  }
}
