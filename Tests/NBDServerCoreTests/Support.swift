// What the tests of the core share: seeds, limits in small numbers, bytes.

import BlockBackend
import Glibc
import NBDProtocol
import NBDServerCore
import Synchronization
import Testing

/// A fresh seed, printed so that a failure can be repeated: put the number in the place of the call.
func printedSeed(_ test: String = #function) -> UInt64 {
  let seed = UInt64.random(in: .min ... .max)
  print("\(test) seed \(seed)")
  return seed
}

/// Bytes in which a shift, a repetition or a lost piece shows: no two runs of four are alike.
func countedBytes(_ count: Int, from start: UInt64 = 0) -> [UInt8] {
  unsafe [UInt8](unsafeUninitializedCapacity: count) { bytes, filled in
    var word = start
    var position = 0
    while position < count {
      word &+= 0x9e37_79b9_7f4a_7c15
      let rest = min(8, count - position)
      unsafe withUnsafeBytes(of: word &* (word >> 32 | 1)) { source in
        _ = unsafe memcpy(bytes.baseAddress! + position, source.baseAddress!, rest)
      }
      position += rest
    }
    filled = count
  }
}

/// `#expect` for what cannot be copied, and for loops: it costs nothing when it holds.
func claim(
  _ holds: Bool, _ comment: @autoclosure () -> String = "", sourceLocation: SourceLocation = #_sourceLocation
) {
  if holds { return }
  #expect(holds, "\(comment())", sourceLocation: sourceLocation)
}

/// Of equal length and content. Array's `==` takes a second for 32 MiB in a debug build.
func areEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
  guard a.count == b.count else { return false }
  return unsafe a.withUnsafeBytes { a in
    unsafe b.withUnsafeBytes { b in unsafe a.count == 0 || memcmp(a.baseAddress!, b.baseAddress!, a.count) == 0 }
  }
}

extension PieceBuffer {
  /// A copy of everything in use.
  borrowing func array() -> [UInt8] {
    var all: [UInt8] = []
    all.reserveCapacity(count)
    while all.count < count { all += [UInt8](copying: bytes(from: all.count)) }
    return all
  }
}

extension ExportTable.Entry {
  static func test(
    _ name: String = "disk", aliases: [String] = [""], sizeBytes: UInt64 = 1 << 30, isReadOnly: Bool = false,
    geometry: Geometry? = nil, capabilities: Capabilities = .memory
  ) -> ExportTable.Entry {
    ExportTable.Entry(
      name: name, aliases: aliases, isReadOnly: isReadOnly, geometry: geometry ?? Geometry(sizeBytes: sizeBytes),
      capabilities: capabilities)
  }
}

extension Session {
  /// A session for the default export of `table`.
  static func test(_ table: ExportTable, replies: ReplyMode = .structured) -> Session {
    let export = table.find("")!
    return Session(
      export: export, flags: replies == .structured ? export.flags.union(.sendDF) : export.flags, replies: replies,
      clientKnowsBlockSizes: false, allocationContextID: replies == .structured ? 1 : nil)
  }
}

/// Counts from any thread.
final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  var value: Int { count.load(ordering: .relaxed) }
  func increment() { count.add(1, ordering: .relaxed) }
}
