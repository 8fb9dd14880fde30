// One splitter for every verb: continues a request that takes more than one system call, so that each of its bytes is
// done exactly once (I2).

import SystemPackage

/// Calls `step` with the rest of `range`, cut to `pieceBytesMax`, until all of it is done.
///
///     range  |=========done=========|---rest, at most pieceBytesMax---|......|
///                                   ^ offset
///
/// `step` returns how many bytes from `offset` it completed. The next call gets exactly what is left: never the start
/// again, never a byte twice. Zero is an error (EIO), not a loop; EINTR repeats the same rest without limit, EAGAIN ten
/// times after calling `pause` with the number of the attempt, then it is EIO.
/// - Throws: the errno of `step` with the offset of the first byte that was not done.
package func forEachPiece(
  of range: Range<UInt64>, pieceBytesMax: UInt64, pause: (_ attempt: Int) -> Void,
  _ step: (_ offset: UInt64, _ length: UInt64) throws(Errno) -> UInt64
) throws(BackendError) {
  precondition(pieceBytesMax > 0, "a piece has at least one byte")
  var offset = range.lowerBound
  var attempts = 0
  while offset < range.upperBound {
    let length = min(range.upperBound - offset, pieceBytesMax)
    do throws(Errno) {
      let done = try step(offset, length)
      guard done > 0 else { throw Errno.ioError }
      precondition(done <= length, "a step cannot complete more than it was given")
      offset += done
      attempts = 0
    } catch .interrupted {
      continue
    } catch .resourceTemporarilyUnavailable {
      attempts += 1
      guard attempts <= 10 else { throw BackendError(.ioError, at: offset) }
      pause(attempts)
    } catch {
      throw BackendError(error, at: offset)
    }
  }
}
