// The input of a fuzzer as a tape of choices. At its end it gives zeroes, so that every input means something.

import Glibc

struct Tape {
  private let bytes: [UInt8]
  private var at = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var isAtEnd: Bool { at >= bytes.count }

  mutating func byte() -> UInt8 {
    guard at < bytes.count else { return 0 }
    defer { at += 1 }
    return bytes[at]
  }

  mutating func flag() -> Bool { byte() & 1 != 0 }

  mutating func number<T: FixedWidthInteger & UnsignedInteger>(_: T.Type = T.self) -> T {
    var value: T = 0
    for _ in 0..<(T.bitWidth / 8) { value = value << 8 | T(byte()) }
    return value
  }

  mutating func take(_ count: Int) -> [UInt8] {
    let end = min(at + count, bytes.count)
    defer { at = end }
    return Array(bytes[at..<end])
  }

  mutating func rest() -> [UInt8] { take(bytes.count) }

  mutating func pick<T>(_ choices: [T]) -> T { choices[Int(byte()) % choices.count] }
}

/// Cuts a stream into the pieces in which it arrives.
struct Cuts {
  private var state: UInt64

  /// - Parameter seed: 0: everything at once.
  init(seed: UInt8) { state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 }

  /// Bytes that come next, at least 1.
  mutating func next(of available: Int) -> Int {
    guard state != 0 else { return available }
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    let draw = state &* 0x2545_f491_4f6c_dd1d >> 32
    switch draw & 3 {
    case 0: return 1
    case 1: return min(available, 1 + Int(draw >> 2) % 40)
    default: return min(available, 1 + Int(draw >> 2) % 70_000)
    }
  }
}

/// What a target found: a rule that does not hold. Traps of the code under test speak for themselves.
package struct Finding: Error, CustomStringConvertible {
  package let description: String
}

func demand(_ holds: Bool, _ rule: @autoclosure () -> String) throws(Finding) {
  if !holds { throw Finding(description: rule()) }
}

/// Equal length and content. The instrumented `==` takes milliseconds for the payloads of a run.
func areEqual(_ a: [UInt8], _ b: ArraySlice<UInt8>) -> Bool {
  guard a.count == b.count else { return false }
  return a.withUnsafeBytes { a in
    b.withUnsafeBytes { b in
      guard let one = a.baseAddress, let other = b.baseAddress else { return true }
      return memcmp(one, other, a.count) == 0
    }
  }
}

func isZero(_ bytes: ArraySlice<UInt8>) -> Bool { areEqual([UInt8](repeating: 0, count: bytes.count), bytes) }

/// The four targets, by name. Each is a pure function of its input.
package let fuzzTargets: [(name: String, run: @Sendable ([UInt8]) throws -> Void)] = [
  ("options", fuzzOptions), ("contexts", fuzzContexts), ("requests", fuzzRequests), ("server", fuzzServer),
]
