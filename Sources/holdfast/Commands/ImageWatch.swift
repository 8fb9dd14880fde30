// Notices that the path of an image names another file by now: clients go on with the old one, and a restart would serve
// the new one.

import BlockBackend
import Logging
import SparseFile
import Syscalls
import SystemPackage

private let watchIntervalMilliseconds: UInt64 = 5000

/// Looks at every path on a thread of its own, because a file system that hangs must not stop the event loop. Each image is
/// reported once for each thing that becomes of its path.
/// - Parameter images: what is served now.
func watchImages(_ images: @escaping @Sendable () -> [(name: String, file: ImageFile)], logger: Logger) {
  let watch: @Sendable () -> Void = {
    var told: [ImageIdentity: ImageFile.PathMeaning] = [:]
    while true {
      sleepMilliseconds(watchIntervalMilliseconds)
      let now = images()
      let served = Set(now.map(\.file.identity))
      told = told.filter { served.contains($0.key) }
      for (name, file) in now {
        let meaning = file.pathMeaning()
        guard told[file.identity, default: .thisImage] != meaning else { continue }
        told[file.identity] = meaning
        guard let text = sentence(file, meaning) else { continue }
        logger.warning("\(text)", metadata: ["export": "\(name)"])
      }
    }
  }
  do throws(Errno) {
    try PosixThread.spawn(name: "image-watch", watch)
  } catch {
    logger.warning("replaced images will not be noticed: no thread: \(error)")
  }
}

private func sentence(_ file: ImageFile, _ meaning: ImageFile.PathMeaning) -> String? {
  switch meaning {
  case .thisImage: nil
  case .anotherFile:
    "\(file.path) names another file by now; clients still get the old one, reload or restart the server to serve the new one"
  case .nothing: "\(file.path) names no file any more; clients still get the old one, and a restart would not find it"
  }
}
