// SIGINT and SIGTERM end a run between two measurements, so that no server and no image is left behind and what was measured
// is written. A second one ends it at once.

import Glibc
import Synchronization

enum Interruption {
  private static let wasAsked = Atomic<Bool>(false)

  static var isAsked: Bool { wasAsked.load(ordering: .relaxed) }

  static func listen() {
    for number in [SIGINT, SIGTERM] {
      signal(number) { number in
        signal(number, SIG_DFL)
        Interruption.wasAsked.store(true, ordering: .relaxed)
      }
    }
  }
}
