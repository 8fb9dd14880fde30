// Small things that many tests use.

import Glibc
import Locking
import Testing

final class ErrorBox: Sendable {
  private let box = Locked<(any Error)?>(nil)
  func set(_ error: any Error) { box.withLock { if $0 == nil { $0 = error } } }
  var first: (any Error)? { box.withLock { $0 } }
}

/// xorshift64*: small, seeded, the same everywhere.
struct Random: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed == 0 ? 0x9e37_79b9_7f4a_7c15 : seed }

  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_f491_4f6c_dd1d
  }

  mutating func bytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { target, filled in
      let raw = UnsafeMutableRawBufferPointer(target)
      var at = 0
      while at + 8 <= count {
        raw.storeBytes(of: next(), toByteOffset: at, as: UInt64.self)
        at += 8
      }
      while at < count {
        raw[at] = UInt8(truncatingIfNeeded: next())
        at += 1
      }
      filled = count
    }
  }
}

/// memcmp, since comparing 32 MiB element by element takes seconds in a debug build.
func same(_ a: [UInt8], _ b: [UInt8]) -> Bool {
  a.count == b.count
    && a.withUnsafeBytes { x in
      b.withUnsafeBytes { y in a.isEmpty || memcmp(x.baseAddress!, y.baseAddress!, a.count) == 0 }
    }
}

func isZero(_ bytes: [UInt8]) -> Bool { same(bytes, [UInt8](repeating: 0, count: bytes.count)) }

func filled(_ byte: UInt8, _ count: Int) -> [UInt8] { [UInt8](repeating: byte, count: count) }

/// Expects equal bytes and, when they are not, says where instead of printing megabytes.
func expectSame(_ got: [UInt8], _ wanted: [UInt8], _ location: SourceLocation = #_sourceLocation) {
  if same(got, wanted) { return }
  let at = zip(got, wanted).enumerated().first { $1.0 != $1.1 }?.offset ?? min(got.count, wanted.count)
  let values = at < min(got.count, wanted.count) ? ": \(got[at]) instead of \(wanted[at])" : ""
  Issue.record("\(got.count) of \(wanted.count) bytes, different from byte \(at)\(values)", sourceLocation: location)
}

func expectZero(_ got: [UInt8], _ location: SourceLocation = #_sourceLocation) {
  expectSame(got, [UInt8](repeating: 0, count: got.count), location)
}
