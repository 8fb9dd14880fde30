// What every backend has to do. One list for all of them: a test only makes the backend.

import BlockBackend
import Dispatch
import Glibc
import Locking
import SystemPackage

/// A claim about backends. It gets a fresh writable one that reads as zeroes and has at least 4 MiB.
package struct ConformanceCheck: Sendable, CustomStringConvertible {
  package var description: String
  /// Throws `ConformanceFailure`, or what the backend throws.
  package var run: @Sendable (_ backend: any BlockBackend, _ seed: UInt64) throws -> Void

  package static let all: [ConformanceCheck] = [
    .init("freshImageReadsZero", freshImageReadsZero),
    .init("bytesAreReadAsWritten", bytesAreReadAsWritten),
    .init("lastByteIsServed", lastByteIsServed),
    .init("nothingIsDoneForNothing", nothingIsDoneForNothing),
    .init("cachedReadIsAPrefix", cachedReadIsAPrefix),
    .init("zeroClearsExactlyItsRange", zeroClearsExactlyItsRange),
    .init("refusedFastZeroChangesNothing", refusedFastZeroChangesNothing),
    .init("trimIsOldOrZeroPerByteAndSparesNeighbours", trimSparesNeighbours),
    .init("extentsStayInsideAndNeverHideData", extentsAreTrue),
    .init("disjointWritesOfManyThreadsAllLand", disjointWritesLand),
    .init("randomOperationsMatchAModel", randomOperationsMatchAModel),
  ]

  private init(_ description: String, _ run: @escaping @Sendable (any BlockBackend, UInt64) throws -> Void) {
    self.description = description
    self.run = run
  }
}

package struct ConformanceFailure: Error, CustomStringConvertible {
  package var description: String
}

private func require(_ isTrue: Bool, _ text: @autoclosure () -> String) throws {
  if !isTrue { throw ConformanceFailure(description: text()) }
}

/// Never zero, and different at neighbouring offsets and for different salts.
private func pattern(_ range: Range<UInt64>, salt: UInt64) -> [UInt8] {
  let first = (range.lowerBound &* 31 &+ salt &* 97) % 255
  let period = (0..<255).map { UInt8((first + $0 * 31) % 255) + 1 }
  var bytes: [UInt8] = []
  bytes.reserveCapacity(range.count)
  while bytes.count < range.count { bytes += period.prefix(range.count - bytes.count) }
  return bytes
}

private func zeroes(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

/// As `==`, which takes seconds for megabytes in debug builds.
private func isSame(_ a: ArraySlice<UInt8>, _ b: ArraySlice<UInt8>) -> Bool {
  guard a.count == b.count else { return false }
  return a.withUnsafeBytes { a in
    b.withUnsafeBytes { b in a.isEmpty || memcmp(a.baseAddress!, b.baseAddress!, a.count) == 0 }
  }
}

private func firstDifference(_ a: [UInt8], _ b: [UInt8]) -> String {
  guard a.count == b.count else { return "\(a.count) bytes against \(b.count)" }
  guard let index = a.indices.first(where: { a[$0] != b[$0] }) else { return "equal" }
  return "byte \(index) is \(a[index]), not \(b[index])"
}

private func requireEqual(_ found: [UInt8], _ wanted: [UInt8], _ what: @autoclosure () -> String) throws {
  try require(isSame(found[...], wanted[...]), "\(what()): \(firstDifference(found, wanted))")
}

// MARK: - The checks

private func freshImageReadsZero(_ backend: any BlockBackend, _ seed: UInt64) throws {
  let bytes = try backend.bytes(at: 0, 1 << 20)
  try requireEqual(bytes, zeroes(1 << 20), "first MiB")
}

private func bytesAreReadAsWritten(_ backend: any BlockBackend, _ seed: UInt64) throws {
  for (salt, range) in [0..<1, 1..<4096, 4095..<4097, 65_536..<196_607, 1_000_003..<3_100_001].enumerated() {
    let range = UInt64(range.lowerBound)..<UInt64(range.upperBound)
    let bytes = pattern(range, salt: UInt64(salt))
    try backend.write(bytes, at: range.lowerBound)
    try requireEqual(try backend.bytes(in: range), bytes, "\(range)")
  }
  try backend.sync()
}

private func lastByteIsServed(_ backend: any BlockBackend, _ seed: UInt64) throws {
  let size = backend.geometry.sizeBytes
  try backend.write([0xee], at: size - 1)
  try requireEqual(try backend.bytes(at: size - 3, 3), [0, 0, 0xee], "last bytes")
  try backend.zero(size - 2..<size, [])
  try requireEqual(try backend.bytes(at: size - 3, 3), [0, 0, 0], "last bytes")
}

private func nothingIsDoneForNothing(_ backend: any BlockBackend, _ seed: UInt64) throws {
  try backend.write(pattern(0..<8192, salt: 1), at: 0)
  try backend.write([], at: 100)
  try backend.zero(100..<100, [])
  try backend.zero(100..<100, [.fast, .noHole])
  try backend.trim(4096..<4096)
  try backend.cache(100..<100)
  try requireEqual(try backend.bytes(at: 0, 8192), pattern(0..<8192, salt: 1), "first 8 KiB")
}

private func cachedReadIsAPrefix(_ backend: any BlockBackend, _ seed: UInt64) throws {
  let range: Range<UInt64> = 12_345..<212_345
  let wanted = pattern(range, salt: 3)
  try backend.write(wanted, at: range.lowerBound)
  var buffer = IOBuffer(count: range.count)
  var bytes = buffer.mutableBytes
  bytes.fill(0xff)
  let count = try backend.readCached(into: &bytes, at: range.lowerBound)
  try require(count >= 0 && count <= range.count, "readCached returned \(count)")
  try requireEqual(Array([UInt8](copying: buffer.bytes)[..<count]), Array(wanted[..<count]), "cached prefix")
}

private let zeroOptions: [ZeroOptions] = [[], .noHole, .fast, [.fast, .noHole]]

private let awkwardRanges: [Range<UInt64>] = [
  0..<1, 511..<513, 4096..<8192, 4095..<8193, 5000..<5001, 10_000..<200_001, 65_536..<1_114_112,
]

/// False: refused, which only `.fast` may be.
private func zeroed(_ backend: any BlockBackend, _ range: Range<UInt64>, _ options: ZeroOptions) throws -> Bool {
  do throws(BackendError) {
    try backend.zero(range, options)
    return true
  } catch {
    guard error.errno == .notSupported, options.contains(.fast) else { throw error }
    return false
  }
}

private func zeroClearsExactlyItsRange(_ backend: any BlockBackend, _ seed: UInt64) throws {
  for (salt, options) in zeroOptions.enumerated() {
    for range in awkwardRanges {
      let around = (range.lowerBound > 9000 ? range.lowerBound - 9000 : 0)..<range.upperBound + 9000
      var wanted = pattern(around, salt: UInt64(salt))
      try backend.write(wanted, at: around.lowerBound)
      guard try zeroed(backend, range, options) else { continue }
      let start = Int(range.lowerBound - around.lowerBound)
      wanted.replaceSubrange(start..<start + range.count, with: zeroes(range.count))
      try requireEqual(try backend.bytes(in: around), wanted, "zero \(range) \(options) inside \(around)")
    }
  }
}

private func refusedFastZeroChangesNothing(_ backend: any BlockBackend, _ seed: UInt64) throws {
  let around: Range<UInt64> = 0..<1 << 21
  let bytes = pattern(around, salt: 7)
  for options: ZeroOptions in [.fast, [.fast, .noHole]] {
    for range in awkwardRanges {
      try backend.write(bytes, at: 0)
      guard try !zeroed(backend, range, options) else { continue }
      try requireEqual(try backend.bytes(in: around), bytes, "refused zero \(range) \(options)")
    }
  }
}

private func trimSparesNeighbours(_ backend: any BlockBackend, _ seed: UInt64) throws {
  for (salt, range) in awkwardRanges.enumerated() {
    let around: Range<UInt64> = 0..<1 << 21
    let before = pattern(around, salt: UInt64(salt))
    try backend.write(before, at: 0)
    try backend.trim(range)
    let after = try backend.bytes(in: around)
    try requireOldOrZero(after, before, within: range, "trim \(range)")
  }
}

/// `after` is `before`, but for bytes within `range` that may have become zero.
private func requireOldOrZero(
  _ after: [UInt8], _ before: [UInt8], within range: Range<UInt64>, _ what: @autoclosure () -> String
) throws {
  let clear = zeroes(512)
  for start in stride(from: 0, to: after.count, by: 512) {
    let end = min(start + 512, after.count)
    let part = after[start..<end]
    if isSame(part, before[start..<end]) { continue }
    if range.contains(UInt64(start)), range.contains(UInt64(end - 1)), isSame(part, clear[..<part.count]) { continue }
    for index in start..<end where after[index] != before[index] {
      try require(range.contains(UInt64(index)), "\(what()) changed byte \(index)")
      try require(after[index] == 0, "\(what()) made byte \(index) \(after[index])")
    }
  }
}

private func extentsAreTrue(_ backend: any BlockBackend, _ seed: UInt64) throws {
  var random = SplitMix(seed: seed)
  let size = backend.geometry.sizeBytes
  for _ in 0..<20 {
    let start = UInt64.random(in: 0..<size - 100_000, using: &random)
    try backend.write(pattern(start..<start + UInt64.random(in: 1..<100_000, using: &random), salt: 5), at: start)
  }
  for extentsMax in [1, 2, 3, 1000] {
    for _ in 0..<20 {
      let start = UInt64.random(in: 0..<size, using: &random)
      let range = start..<UInt64.random(in: start + 1...size, using: &random)
      let extents = try backend.extents(of: range, extentsMax: extentsMax)
      let text = "extents of \(range), at most \(extentsMax): \(extents)"
      try require(!extents.isEmpty && extents.count <= extentsMax, text)
      var offset = range.lowerBound
      for (index, extent) in extents.enumerated() {
        try require(extent.lengthBytes > 0, text)
        try require(index == 0 || extents[index - 1].kind != extent.kind, text)
        let part = offset..<offset + extent.lengthBytes
        try require(part.upperBound <= range.upperBound, text)
        if extent.kind != .data { try requireEqual(try backend.bytes(in: part), zeroes(part.count), text) }
        offset = part.upperBound
      }
      if extentsMax == 1000 { try require(offset == range.upperBound, text) }
    }
  }
}

private func disjointWritesLand(_ backend: any BlockBackend, _ seed: UInt64) throws {
  let width: UInt64 = 5003
  let failures = Locked<[String]>([])
  DispatchQueue.concurrentPerform(iterations: 8) { thread in
    // Strips of 8 threads side by side: neighbours share pages and sectors.
    for strip in 0..<40 {
      let start = UInt64(strip * 8 + thread) * width
      do {
        try backend.write(pattern(start..<start + width, salt: UInt64(thread)), at: start)
      } catch {
        failures.withLock { $0.append("\(error)") }
      }
    }
  }
  try require(failures.withLock { $0.isEmpty }, failures.withLock { $0.joined(separator: "; ") })
  for strip in 0..<320 {
    let start = UInt64(strip) * width
    let wanted = pattern(start..<start + width, salt: UInt64(strip % 8))
    try requireEqual(try backend.bytes(at: start, Int(width)), wanted, "strip \(strip)")
  }
}

private func randomOperationsMatchAModel(_ backend: any BlockBackend, _ seed: UInt64) throws {
  var random = SplitMix(seed: seed)
  let size = min(backend.geometry.sizeBytes, 4 << 20)
  var model = zeroes(Int(size))
  for step in 0..<250 {
    let start = UInt64.random(in: 0..<size, using: &random)
    let longest = step % 10 == 0 ? 1 << 20 : 20_000
    let range = start..<min(size, start + UInt64.random(in: 1...UInt64(longest), using: &random))
    let indices = Int(range.lowerBound)..<Int(range.upperBound)
    switch Int.random(in: 0..<4, using: &random) {
    case 0:
      let bytes = pattern(range, salt: UInt64(step))
      try backend.write(bytes, at: start)
      model.replaceSubrange(indices, with: bytes)
    case 1:
      if try zeroed(backend, range, zeroOptions[Int.random(in: 0..<4, using: &random)]) {
        model.replaceSubrange(indices, with: zeroes(range.count))
      }
    case 2:
      try backend.trim(range)
      let found = try backend.bytes(in: range)
      try requireOldOrZero(found, Array(model[indices]), within: 0..<UInt64(found.count), "step \(step): trim \(range)")
      model.replaceSubrange(indices, with: found)
    default:
      try requireEqual(try backend.bytes(in: range), Array(model[indices]), "step \(step): read \(range)")
    }
  }
  try requireEqual(try backend.bytes(at: 0, Int(size)), model, "after all steps")
}
