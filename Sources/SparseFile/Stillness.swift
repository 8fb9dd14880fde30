// The condition for sending pages of an image without a copy (I4): nobody changes it until they have been received.

import BlockBackend
import Synchronization
import Syscalls

/// Says of one image, in this process, that nobody writes to it, and counts who relies on that.
///
/// It begins when a reader holds the image lock, which keeps other programs from writing, while this process has no writer.
/// It ends for ever when a writer comes: `end` stops further lending at once, and the writer is refused until all that was
/// lent has come back. So whatever opens images later, while the server runs, cannot change what is on its way to a client.
final class Stillness: Sendable {
  // What is lent, and the sign that nothing more may be.
  private let state = Atomic<UInt64>(0)
  private static let ended: UInt64 = 1 << 63

  /// Files that are lent now.
  var lentCount: Int { Int(state.load(ordering: .sequentiallyConsistent) & ~Stillness.ended) }

  /// - Returns: false when it has ended.
  fileprivate func begin() -> Bool {
    guard state.add(1, ordering: .sequentiallyConsistent).oldValue & Stillness.ended == 0 else {
      giveBack()
      return false
    }
    return true
  }

  fileprivate func giveBack() { state.subtract(1, ordering: .sequentiallyConsistent) }

  /// For a writer that wants to come: nothing more is lent.
  /// - Returns: whether nothing is lent any more, so that it may.
  func end() -> Bool {
    state.bitwiseOr(Stillness.ended, ordering: .sequentiallyConsistent).oldValue & ~Stillness.ended == 0
  }
}

/// Keeps the file open and its image still.
final class StillFile: LentFile {
  let descriptor: Int32
  private let file: OpenFile
  /// Nil in a test without the guard: nothing is promised then.
  private let stillness: Stillness?

  /// Nil when the stillness has ended.
  init?(_ file: OpenFile, _ stillness: Stillness?) {
    if let stillness { guard stillness.begin() else { return nil } }
    self.file = file
    self.stillness = stillness
    descriptor = file.descriptor
  }

  deinit { stillness?.giveBack() }
}
