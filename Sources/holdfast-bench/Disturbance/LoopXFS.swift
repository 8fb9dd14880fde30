// An XFS of our own on a loop device. The mount lives in a mount namespace of this process and of the servers it starts, and the
// loop device frees itself: when all of them have ended, however they did, nothing is left.

import DaemonHarness
import Glibc

struct LoopXFS {
  let path: String
  private let backing: String

  private static let isolated = "HOLDFAST_BENCH_OWN_MOUNTS"

  /// Goes on as the same command in a mount namespace of its own, when it may; to be called before anything else is done.
  static func isolate() {
    guard geteuid() == 0, getenv(isolated) == nil, let unshare = find("unshare") else { return }
    setenv(isolated, "1", 1)
    var arguments = ([unshare, "--mount"] + CommandLine.arguments).map { strdup($0) }
    arguments.append(nil)
    execv(unshare, arguments)
    progress("unshare: \(errnoText())")
    unsetenv(isolated)
  }

  /// Nil, with a line that says why, when this process may not mount or there is no mkfs.xfs.
  static func make(in directory: String) throws -> LoopXFS? {
    guard getenv(isolated) != nil, let mkfs = find("mkfs.xfs") else {
      progress("XFS: needs root and xfsprogs; left out")
      return nil
    }
    let xfs = LoopXFS(path: directory + "/xfs", backing: directory + "/xfs.backing")
    try makeFolder(xfs.path)
    try run("/usr/bin/truncate", ["-s", "4G", xfs.backing], seconds: 20).orThrow()
    try run(mkfs, ["-q", xfs.backing], seconds: 60).orThrow()
    try run("/bin/mount", ["-o", "loop", xfs.backing, xfs.path], seconds: 60).orThrow()
    // The backing file's own page cache must not make cold reads warm.
    let device = try run("findmnt", ["-n", "-o", "SOURCE", xfs.path], seconds: 20).orThrow().line
    _ = try run("losetup", ["--direct-io=on", device], seconds: 20)
    return xfs
  }

  func remove() {
    try? unmount(path)
    unlink(backing)
  }
}
