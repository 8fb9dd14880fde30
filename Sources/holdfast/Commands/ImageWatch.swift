// Notices that the path of an image names another file by now: clients go on with the old one, and a restart would serve
// the new one.

import Logging
import SparseFile
import Syscalls
import SystemPackage

private let watchIntervalMilliseconds: UInt64 = 5000

/// Looks at every path on a thread of its own, because a file system that hangs must not stop the event loop. Each image is
/// reported once.
func watchImages(_ images: [(name: String, file: ImageFile)], logger: Logger) {
  let watch: @Sendable () -> Void = {
    var rest = images
    while !rest.isEmpty {
      sleepMilliseconds(watchIntervalMilliseconds)
      rest.removeAll { name, file in
        guard file.wasReplaced() else { return false }
        logger.warning(
          "\(file.path) names another file by now; clients still get the old one, restart the server to serve the new one",
          metadata: ["export": "\(name)"])
        return true
      }
    }
  }
  do throws(Errno) {
    try PosixThread.spawn(name: "image-watch", watch)
  } catch {
    logger.warning("replaced images will not be noticed: no thread: \(error)")
  }
}
