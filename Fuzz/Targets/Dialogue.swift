// Drives a handshake as the server does: keeps what was not consumed, and calls again while it is told to.

import BlockBackend
import NBDProtocol

struct Dialogue {
  enum Ending: Equatable {
    case waits
    case transmission
    case closed(String)
    case violation(ProtocolViolation)
  }

  private var handshake: Handshake
  private let limits: HandshakeLimits
  private let exports: FuzzExports
  private let isShuttingDown: Bool
  private(set) var ending = Ending.waits
  private(set) var session: Session?
  private(set) var output: [UInt8] = []
  /// What it left for the transmission phase, or waits to be completed.
  private(set) var kept: [UInt8] = []

  init(limits: HandshakeLimits, exports: FuzzExports, isShuttingDown: Bool) {
    handshake = Handshake(limits: limits)
    (self.limits, self.exports, self.isShuttingDown) = (limits, exports, isShuttingDown)
  }

  /// The whole of `stream`, cut by `cuts`.
  mutating func say(_ stream: [UInt8], _ cuts: inout Cuts) throws(Finding) {
    var at = 0
    while at < stream.count {
      let count = cuts.next(of: stream.count - at)
      kept += stream[at..<at + count]
      at += count
      try listen()
    }
  }

  private mutating func listen() throws(Finding) {
    while ending == .waits {
      let progress: HandshakeProgress
      let bytes = kept
      do throws(ProtocolViolation) {
        progress = try handshake.receive(
          bytes.rawBytes, exports: exports, isShuttingDown: isShuttingDown, output: &output)
      } catch {
        ending = .violation(error)
        return
      }
      kept.removeFirst(progress.consumed)
      switch progress.outcome {
      case .needsMore(let wanted):
        try demand(wanted > kept.count, "it waits for \(wanted) bytes and has \(kept.count)")
        try demand(wanted <= limits.optionBytesMax + 16, "it wants \(wanted) bytes in memory")
        return
      case .sendFirst: try demand(progress.consumed > 0, "it makes no progress")
      case .transmission(let session):
        ending = .transmission
        self.session = session
      case .close(let reason): ending = .closed(reason.text)
      }
    }
  }
}
