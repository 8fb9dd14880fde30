// Reading and writing arrays.

import BlockBackend

extension BlockBackend {
  package func bytes(at offset: UInt64, _ count: Int) throws(BackendError) -> [UInt8] {
    var buffer = IOBuffer(count: count)
    var bytes = buffer.mutableBytes
    try read(into: &bytes, at: offset)
    return [UInt8](copying: buffer.bytes)
  }

  package func bytes(in range: Range<UInt64>) throws(BackendError) -> [UInt8] {
    try bytes(at: range.lowerBound, range.count)
  }

  package func write(_ bytes: [UInt8], at offset: UInt64) throws(BackendError) {
    try write(bytes.span.bytes, at: offset)
  }
}
