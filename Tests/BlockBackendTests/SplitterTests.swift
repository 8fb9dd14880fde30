// The splitter of requests: each byte once, with short counts, EINTR and EAGAIN at will.

import BlockBackend
import SystemPackage
import TestBackends
import Testing

/// I2: every byte of a request exactly once.
@Suite struct SplitterTests {
  @Test func restIsSubmittedAfterShortCompletion() throws {
    var calls: [Range<UInt64>] = []
    try forEachPiece(of: 10..<110, pieceBytesMax: 60, pause: { _ in }) { offset, length in
      calls.append(offset..<offset + length)
      return min(length, 25)
    }
    #expect(calls == [10..<70, 35..<95, 60..<110, 85..<110])
  }

  @Test func nothingDoneIsAnErrorAtThatByte() {
    #expect(throws: BackendError(.ioError, at: 42)) {
      try forEachPiece(of: 10..<100, pieceBytesMax: 32, pause: { _ in }) { offset, _ in offset == 42 ? 0 : 32 }
    }
  }

  @Test func interruptionRepeatsTheSameRestWithoutLimit() throws {
    var calls: [Range<UInt64>] = []
    try forEachPiece(of: 0..<10, pieceBytesMax: 10, pause: { _ in }) { offset, length throws(Errno) in
      calls.append(offset..<offset + length)
      guard calls.count > 1000 else { throw .interrupted }
      return length
    }
    #expect(calls == Array(repeating: 0..<10, count: 1001))
  }

  @Test func tenTimesTryAgainThenAnError() {
    var attempts = 0
    var pauses: [Int] = []
    #expect(throws: BackendError(.ioError, at: 5)) {
      try forEachPiece(of: 0..<10, pieceBytesMax: 5, pause: { pauses.append($0) }) { offset, _ throws(Errno) in
        guard offset == 5 else { return 5 }
        attempts += 1
        throw .resourceTemporarilyUnavailable
      }
    }
    #expect(attempts == 11)
    #expect(pauses == Array(1...10))
  }

  @Test func progressForgetsOldAttempts() throws {
    var failures = 0
    try forEachPiece(of: 0..<10, pieceBytesMax: 1, pause: { _ in }) { _, length throws(Errno) in
      failures += 1
      guard failures.isMultiple(of: 8) else { throw .resourceTemporarilyUnavailable }
      return length
    }
    #expect(failures == 80)
  }

  @Test func otherErrorsAreFinalAndNameTheByte() {
    #expect(throws: BackendError(.noSpace, at: 7)) {
      try forEachPiece(of: 0..<10, pieceBytesMax: 7, pause: { _ in }) { offset, length throws(Errno) in
        guard offset == 0 else { throw .noSpace }
        return length
      }
    }
  }

  @Test func nothingToDoMakesNoCall() throws {
    try forEachPiece(of: 5..<5, pieceBytesMax: 1, pause: { _ in }) { _, _ in
      Issue.record("called")
      return 1
    }
  }

  /// Lengths around the limits at which real servers lost bytes: 64 MiB, 2 GiB, 4 GiB.
  @Test func everyByteOnceAroundTheOldLimits() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var random = SplitMix(seed: seed)
    for limit: UInt64 in [64 << 20, 2 << 30, 4 << 30] {
      for delta in [-4097, -4096, -513, -1, 0, 1, 511, 4096, 65_537] {
        let length = UInt64(Int64(limit) + Int64(delta))
        let start = UInt64.random(in: 0...(8 << 30), using: &random)
        let range = start..<start + length
        for pieceBytesMax: UInt64 in [32 << 20, 64 << 20, 0x7fff_f000, 1 << 31, .max] {
          var next = start
          try forEachPiece(of: range, pieceBytesMax: pieceBytesMax, pause: { _ in }) { offset, piece throws(Errno) in
            #expect(offset == next, "a byte twice or never, seed \(seed)")
            #expect(piece <= pieceBytesMax && offset + piece <= range.upperBound)
            switch Int.random(in: 0..<8, using: &random) {
            case 0: throw .interrupted
            case 1: throw .resourceTemporarilyUnavailable
            case 2:
              let done = UInt64.random(in: 1...piece, using: &random)
              next += done
              return done
            default:
              next += piece
              return piece
            }
          }
          #expect(next == range.upperBound)
        }
      }
    }
  }
}
