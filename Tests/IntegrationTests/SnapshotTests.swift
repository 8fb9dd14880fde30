// `holdfast snapshot` against the built daemon: with a mounted file system in the image that is written to all the time, and where
// it cannot work.

import DaemonHarness
import Foundation
import NBDClient
import Synchronization
import Testing

extension Integration {
  @Suite struct Snapshots {
    /// The image on XFS or btrfs, in it ext4 or XFS, mounted by the kernel and busy. A snapshot is as after a power cut: it mounts, and
    /// then a check finds nothing.
    @Test(
      needs("nbdfuse", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "e2fsck", "xfs_repair"), needsRoot,
      arguments: [
        (place: "mkfs.xfs", inside: "mkfs.ext4 -q -F", options: "defaults", check: "e2fsck -fn"),
        (place: "mkfs.btrfs", inside: "mkfs.xfs -q -f", options: "nouuid", check: "xfs_repair -n"),
      ])
    func aBusyFileSystemInASnapshotIsClean(place: String, inside: String, options: String, check: String) throws {
      try withScratch { scratch in
        let directory = try scratch.mountFileSystem([place, "-q"], sizeBytes: 2 << 30)
        let image = directory + "/disk.img"
        try shell("truncate -s 512M \(image)", seconds: 10).orThrow()
        let admin = scratch.file("admin.sock")
        let daemon = try Daemon.start(in: scratch, ["--admin", admin, "--export", "disk=\(image)"])
        try withScratch { inner in
          let fuse = inner.file("fuse")
          mkdir(fuse, 0o755)
          let bridge = try Child(
            "/usr/bin/nbdfuse", [fuse + "/disk", daemon.uri("disk")], outputPath: inner.file("nbdfuse.log"))
          inner.atEnd {
            _ = try? unmount(fuse)
            bridge.end()
          }
          #expect(eventually(seconds: 10) { exists(fuse + "/disk") }, "\(bridge.output)")
          let device = try inner.attachLoop(fuse + "/disk")
          let mount = inner.file("mnt")
          mkdir(mount, 0o755)
          inner.atEnd { _ = try? unmount(mount) }
          try shell("\(inside) \(device); mount \(device) \(mount)", seconds: 60).orThrow()
          let load = try Child(
            "/bin/bash",
            [
              "-c",
              """
              cd \(mount); i=0
              while :; do
                i=$((i + 1)); mkdir -p d$((i % 7)); head -c $((i % 50 * 3000 + 1)) /dev/urandom > d$((i % 7))/f$((i % 97))
                [ $((i % 5)) = 0 ] && rm -rf d$((i % 3)); [ $((i % 11)) = 0 ] && sync; :
              done
              """,
            ], outputPath: inner.file("load.log"))
          inner.atEnd {
            load.signal(SIGKILL)
            _ = load.wait(seconds: 10)
          }
          usleep(500_000)
          for number in 1...4 {
            let copy = "\(directory)/copy-\(number).img"
            let said = try run(Daemon.binary, ["snapshot", "--admin", admin, "disk", copy], seconds: 30).orThrow()
              .output
            #expect(said.hasPrefix("\(copy): 512.0 MiB as of now; writers waited "), "\(said)")
            usleep(200_000)
          }
          #expect(load.status() == nil, "the load has ended: \(load.output)")
        }
        try daemon.stop()
        for number in 1...4 {
          try withScratch { inner in
            let device = try inner.attachLoop("\(directory)/copy-\(number).img")
            let mount = inner.file("mnt")
            mkdir(mount, 0o755)
            // Replays the journal.
            try shell("mount -o \(options) \(device) \(mount); ls \(mount) >/dev/null; umount \(mount)", seconds: 60)
              .orThrow()
            try shell("\(check) \(device)", seconds: 60).orThrow()
          }
        }
      }
    }

    /// Writers wait for a snapshot and go on; whoever reads sees what was there.
    @Test(needs("mkfs.xfs"), needsRoot) func aSnapshotHasWhatWasAnsweredBeforeIt() throws {
      try withScratch { scratch in
        let directory = try scratch.mountFileSystem(["mkfs.xfs", "-q"], sizeBytes: 512 << 20)
        let admin = scratch.file("admin.sock")
        let daemon = try Daemon.start(
          in: scratch, ["--admin", admin, "--create", "--size", "16M", "--export", "disk=\(directory)/disk.img"])
        let client = try daemon.client("disk")
        func snapshot(_ name: String, _ arguments: String...) throws -> ToolResult {
          try run(
            Daemon.binary, ["snapshot", "--admin", admin] + arguments + ["disk", directory + "/" + name], seconds: 30)
        }
        #expect(try client.write(0, filled(1, 1 << 20)).isSuccess)
        let json = try snapshot("one.img", "--json").orThrow().output
        let result = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        #expect(result["size"] as? Int == 16 << 20)
        #expect((result["stall_milliseconds"] as? Double ?? -1) >= 0)
        #expect(try client.write(0, filled(2, 4096)).isSuccess)
        #expect(try client.call(Cmd.trim, offset: 1 << 19, length: 1 << 19).isSuccess)
        let one = [UInt8](try Data(contentsOf: URL(filePath: directory + "/one.img")))
        #expect(one.count == 16 << 20)
        expectSame(Array(one[..<(1 << 20)]), filled(1, 1 << 20))

        let again = try snapshot("one.img")
        #expect(again.status == .exited(73))
        #expect(
          again.output
            == "error: cannot copy \(directory)/disk.img to \(directory)/one.img: the file exists, and a snapshot replaces nothing; "
            + "choose another name\n")
        let elsewhere = try run(
          Daemon.binary, ["snapshot", "--admin", admin, "disk", scratch.file("copy.img")], seconds: 30)
        #expect(elsewhere.status == .exited(73))
        #expect(elsewhere.output.contains("it would be on another file system"))
        #expect(!exists(scratch.file("copy.img")))
        try daemon.stop()
      }
    }
  }
}
