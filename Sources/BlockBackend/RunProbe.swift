// What a range of a file begins with, by SEEK_DATA and SEEK_HOLE, as a plan: which seek comes next, and what the answers
// mean (I3).

import SystemPackage

/// The run of bytes that a range starts with. Pure: look at `step`, do it, tell how it went.
///
///     rest   |........hole........|====data====|
///            ^ offset             ^ SEEK_DATA  ^ SEEK_HOLE from there
///
/// The two seeks are two calls, and write-back may change the map between them even while no client may write. So any
/// answer is possible, and one that makes no sense means data.
package struct RunProbe: Sendable {
  package enum Step: Sendable, Equatable {
    case call(FileCall)
    /// Tell the present size of the file.
    case askSize
    /// Nil: the range starts beyond the end of the file.
    case done(Extent?)
    case failed(BackendError)
  }

  package private(set) var step: Step
  private let rest: Range<UInt64>

  /// - Parameter canSeek: the kernel has not refused SEEK_DATA before.
  package init(of rest: Range<UInt64>, canSeek: Bool) {
    self.rest = rest
    step = .call(FileCall(kind: .seekData, offset: rest.lowerBound, length: 0))
    if !canSeek { step = .done(allData) }
  }

  private var allData: Extent { Extent(lengthBytes: rest.upperBound - rest.lowerBound, kind: .data) }

  private func run(to end: UInt64, _ kind: Extent.Kind) -> Step {
    .done(Extent(lengthBytes: min(end, rest.upperBound) - rest.lowerBound, kind: kind))
  }

  /// The seek that was asked for ended there.
  package mutating func found(_ position: UInt64) {
    let offset = rest.lowerBound
    switch step {
    case .call(let call) where call.kind == .seekData:
      if position > offset {
        step = run(to: position, .hole)
      } else if position == offset {
        step = .call(FileCall(kind: .seekHole, offset: offset, length: 0))
      } else {
        step = .done(allData)
      }
    case .call: step = position > offset ? run(to: position, .data) : .done(allData)
    case .askSize, .done, .failed: preconditionFailure("only a seek that was asked for ends")
    }
  }

  /// The seek that was asked for failed.
  /// - Returns: whether to remember that the kernel does not know it.
  package mutating func failed(_ errno: Errno) -> Bool {
    guard case .call(let call) = step else { preconditionFailure("only a seek that was asked for ends") }
    guard call.kind == .seekData, errno != .interrupted else {
      step = .done(allData)
      return false
    }
    if errno == .noSuchAddressOrDevice {
      step = .askSize
      return false
    }
    guard errno.isRefusal || errno == .invalidArgument else {
      step = .failed(BackendError(errno, at: rest.lowerBound))
      return false
    }
    step = .done(allData)
    return true
  }

  /// ENXIO: no data from `offset` on. That is a hole only below the size that the file has now.
  package mutating func sized(_ sizeBytes: UInt64) {
    step = rest.lowerBound < sizeBytes ? run(to: sizeBytes, .hole) : .done(nil)
  }
}
