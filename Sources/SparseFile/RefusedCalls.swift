// What the kernel refused is remembered per kind of call, and not asked again.

import BlockBackend
import Synchronization

struct RefusedCalls: ~Copyable, Sendable {
  private let bits = Atomic<UInt32>(0)

  func remembers(_ kind: FileCall.Kind) -> Bool { bits.load(ordering: .relaxed) & kind.bit != 0 }

  func note(_ kind: FileCall.Kind) { bits.bitwiseOr(kind.bit, ordering: .relaxed) }
}

extension FileCall.Kind {
  fileprivate var bit: UInt32 {
    switch self {
    case .readCached: 1 << 0
    case .punchHole: 1 << 1
    case .zeroRange: 1 << 2
    case .allocate: 1 << 3
    case .discard: 1 << 4
    case .seekData: 1 << 5
    case .mapExtents: 1 << 6
    case .countCached: 1 << 7
    case .read, .write, .sync, .seekHole, .willNeed, .pause:
      preconditionFailure("a file without this call cannot be served")
    }
  }
}
