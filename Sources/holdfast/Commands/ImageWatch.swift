// Notices that the path of an image names another file by now: clients go on with the old one, and a restart would serve
// the new one.

import BlockBackend
import Logging
import SparseFile
import Syscalls
import SystemPackage

private let watchIntervalMilliseconds: UInt64 = 5000

/// Looks at every path on a thread of its own, because a file system that hangs must not stop the event loop. Each image is
/// reported once.
/// - Parameter images: what is served now.
func watchImages(_ images: @escaping @Sendable () -> [(name: String, file: ImageFile)], logger: Logger) {
  let watch: @Sendable () -> Void = {
    var told: Set<ImageIdentity> = []
    while true {
      sleepMilliseconds(watchIntervalMilliseconds)
      let now = images()
      told.formIntersection(now.map(\.file.identity))
      for (name, file) in now where !told.contains(file.identity) && file.wasReplaced() {
        told.insert(file.identity)
        let advice = "reload or restart the server to serve the new one"
        logger.warning(
          "\(file.path) names another file by now; clients still get the old one, \(advice)",
          metadata: ["export": "\(name)"])
      }
    }
  }
  do throws(Errno) {
    try PosixThread.spawn(name: "image-watch", watch)
  } catch {
    logger.warning("replaced images will not be noticed: no thread: \(error)")
  }
}
