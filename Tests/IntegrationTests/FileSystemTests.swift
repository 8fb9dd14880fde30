// A file system on the export: nbdfuse presents the export as a file, a loop device makes a disk of it, and the kernel's own
// ext4 and XFS are the client.

import DaemonHarness
import Glibc
import NBDClient
import Testing

/// The export as a block device of this machine, until the scratch directory goes.
private func attach(_ daemon: Daemon, _ scratch: Scratch) throws -> String {
  let directory = scratch.file("fuse")
  mkdir(directory, 0o755)
  let fuse = try Child(
    "/usr/bin/nbdfuse", [directory + "/disk", daemon.uri()], outputPath: scratch.file("nbdfuse.log"))
  scratch.atEnd {
    _ = try? unmount(directory)
    fuse.end()
  }
  guard eventually(seconds: 10, { exists(directory + "/disk") }) else {
    throw HarnessError("nbdfuse did not come up: \(fuse.output)")
  }
  return directory + "/disk"
}

extension Integration {
  @Suite struct FileSystems {
    @Test(
      needs("nbdfuse", "mkfs.ext4", "mkfs.xfs", "fstrim", "sha256sum"), needsRoot,
      arguments: [
        (mkfs: "mkfs.ext4 -q -F", fsck: "e2fsck -fn"), (mkfs: "mkfs.xfs -q -f", fsck: "xfs_repair -n"),
      ])
    func filesSurviveTrimAndRemount(mkfs: String, fsck: String) throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 512 << 20)
        let daemon = try Daemon.start(in: scratch, [image])
        let sums = scratch.file("sums")
        let mount = scratch.file("mnt")
        mkdir(mount, 0o755)
        // A directory of its own for what must be undone before the daemon is asked to stop.
        try withScratch { inner in
          let disk = try attach(daemon, inner)
          let device = try inner.attachLoop(disk)
          inner.atEnd { _ = try? unmount(mount) }
          try shell("\(mkfs) \(device); mount \(device) \(mount)", seconds: 60).orThrow()
          try shell(
            """
            cd \(mount); mkdir keep drop
            for i in $(seq 1 24); do head -c $((i * 150000)) /dev/urandom > keep/$i; head -c $((i * 150000)) /dev/urandom > drop/$i; done
            sync; sha256sum keep/* > \(sums)
            """, seconds: 90
          ).orThrow()
          let before = try allocatedBytes(image)
          try shell("rm -r \(mount)/drop", seconds: 60).orThrow()
          // XFS frees what was removed in the background, so the first trim may come too early.
          let isFreed = try eventually(seconds: 60) {
            try shell("sync; fstrim \(mount); sync", seconds: 60).orThrow()
            return try allocatedBytes(image) + (40 << 20) < before
          }
          #expect(isFreed, "fstrim freed too little of 45 MB")
          try shell("cd \(mount); sha256sum --quiet -c \(sums)", seconds: 60).orThrow()
          try shell("umount \(mount); mount \(device) \(mount)", seconds: 60).orThrow()
          try shell("cd \(mount); sha256sum --quiet -c \(sums)", seconds: 60).orThrow()
          try shell("umount \(mount); \(fsck) \(device)", seconds: 60).orThrow()
        }
        try daemon.stop()
        // Without any server in between: what is in the image is what the client believed.
        try shell("\(fsck) \(image)", seconds: 60).orThrow()
        let direct = try scratch.mount(loop: image)
        try shell("cd \(direct); sha256sum --quiet -c \(sums)", seconds: 60).orThrow()
      }
    }
  }
}
