// One splitter for every verb: continues a request that takes more than one system call, so that each of its bytes is
// done exactly once (I2).

import SystemPackage

/// How far a request of several system calls has come. Pure: the daemon makes the calls at once (`forEachPiece`), the
/// simulation one by one with other events between them.
///
///     range  |=========done=========|---rest, at most pieceBytesMax---|......|
///                                   ^ offset
package struct PieceProgress: Sendable, Equatable {
  /// Where the next call begins.
  package private(set) var offset: UInt64
  private let end: UInt64
  private let pieceBytesMax: UInt64
  private var attempts = 0

  package init(of range: Range<UInt64>, pieceBytesMax: UInt64) {
    precondition(pieceBytesMax > 0, "a piece has at least one byte")
    offset = range.lowerBound
    end = range.upperBound
    self.pieceBytesMax = pieceBytesMax
  }

  package var isDone: Bool { offset == end }

  /// Bytes that the next call asks for.
  package var length: UInt64 { min(end - offset, pieceBytesMax) }

  /// The call completed so many bytes. What follows is exactly what is left: never the start again, never a byte twice.
  /// - Throws: EIO when there were none: an error, not a loop.
  package mutating func completed(_ bytes: UInt64) throws(BackendError) {
    guard bytes > 0 else { throw BackendError(.ioError, at: offset) }
    precondition(bytes <= length, "a call cannot complete more than it was given")
    offset += bytes
    attempts = 0
  }

  /// The call failed. EINTR repeats it without limit, EAGAIN ten times.
  /// - Returns: nil to repeat it at once; else the number of the attempt to wait for before.
  /// - Throws: any other error, with the offset of the first byte that was not done; EIO after the last attempt.
  package mutating func failed(_ errno: Errno) throws(BackendError) -> Int? {
    switch errno {
    case .interrupted: return nil
    case .resourceTemporarilyUnavailable:
      attempts += 1
      guard attempts <= Self.attemptsMax else { throw BackendError(.ioError, at: offset) }
      return attempts
    default: throw BackendError(errno, at: offset)
    }
  }

  private static let attemptsMax = 10
}

/// Calls `step` with the rest of `range`, cut to `pieceBytesMax`, until all of it is done; `PieceProgress` has the rules.
///
/// `step` returns how many bytes from `offset` it completed. `pause` is called with the number of an attempt.
/// - Throws: the errno of `step` with the offset of the first byte that was not done.
package func forEachPiece(
  of range: Range<UInt64>, pieceBytesMax: UInt64, pause: (_ attempt: Int) -> Void,
  _ step: (_ offset: UInt64, _ length: UInt64) throws(Errno) -> UInt64
) throws(BackendError) {
  var progress = PieceProgress(of: range, pieceBytesMax: pieceBytesMax)
  while !progress.isDone {
    let done: UInt64
    do throws(Errno) {
      done = try step(progress.offset, progress.length)
    } catch {
      if let attempt = try progress.failed(error) { pause(attempt) }
      continue
    }
    try progress.completed(done)
  }
}
