// Where images may lie and where the server may listen: block devices, file systems without every rung of the ladder, IPv6.

import DaemonHarness
import Glibc
import NBDClient
import Testing

/// Write, zero, trim, sync and read back, whatever the image is made of.
private func expectWorkingImage(_ client: RawClient) throws {
  var random = Random(seed: 5)
  let data = random.bytes(1 << 20)
  #expect(try client.write(1000, data, flags: CmdFlag.fua).isSuccess)
  try expectSame(client.read(1000, 1 << 20).data, data)
  for flags in [0, CmdFlag.noHole, CmdFlag.fua, CmdFlag.fua | CmdFlag.noHole] {
    #expect(try client.write(0, data).isSuccess)
    #expect(try client.call(Cmd.writeZeroes, flags: flags, offset: 5000, length: 70_001).isSuccess)
    try expectSame(client.read(0, 5000).data, Array(data[0..<5000]))
    try expectZero(client.read(5000, 70_001).data)
    try expectSame(client.read(75_001, 4096).data, Array(data[75_001..<79_097]))
  }
  #expect(try client.write(0, data).isSuccess)
  #expect(try client.call(Cmd.trim, flags: CmdFlag.fua, offset: 100, length: 300_000).isSuccess)
  try expectSame(client.read(0, 100).data, Array(data[0..<100]))
  try expectSame(client.read(300_100, 4096).data, Array(data[300_100..<304_196]))
  let trimmed = try client.read(100, 300_000).data
  for (index, byte) in trimmed.enumerated() where byte != 0 && byte != data[100 + index] {
    Issue.record("byte \(100 + index) is neither old nor zero")
    break
  }
  #expect(try client.call(Cmd.cache, offset: 0, length: 1 << 20).isSuccess)
  #expect(try client.call(Cmd.blockStatus, offset: 0, length: 1 << 20).isSuccess)
  #expect(try client.call(Cmd.flush).isSuccess)
}

extension Integration {
  @Suite struct Places {
    @Test(needsRoot) func aBlockDeviceIsServed() throws {
      try withScratch { scratch in
        let backing = try scratch.makeImage("backing.img", sizeBytes: 32 << 20)
        let device = try scratch.attachLoop(backing)
        let daemon = try Daemon.start(in: scratch, [device])
        let client = try daemon.client()
        #expect(client.export.sizeBytes == 32 << 20)
        try expectWorkingImage(client)
        // Nothing is known about what is allocated behind a device.
        let map = try client.call(Cmd.blockStatus, offset: 0, length: 32 << 20).extents["base:allocation"]
        #expect(map?.allSatisfy { $0.status == 0 } == true)
        #expect(try client.call(Cmd.trim, offset: 0, length: 32 << 20).isSuccess)
        try daemon.stop()
      }
    }

    @Test(needsRoot) func aBlockDeviceInUseIsRefused() throws {
      try withScratch { scratch in
        let backing = try scratch.makeImage("backing.img", sizeBytes: 32 << 20)
        try run("/sbin/mkfs.ext4", ["-q", "-F", backing], seconds: 20).orThrow()
        let device = try scratch.attachLoop(backing)
        let mount = scratch.file("mnt")
        mkdir(mount, 0o755)
        try run("/bin/mount", [device, mount], seconds: 20).orThrow()
        scratch.atEnd { _ = try? unmount(mount) }
        let refused = try Daemon.launch(in: scratch, [device], socket: scratch.file("x.sock"))
        let status = refused.child.wait(seconds: 10)
        #expect(status == .exited(75), "\(refused.log)")
      }
    }

    @Test(needsRoot) func aLoopDeviceBesideItsFileIsRefused() throws {
      try withScratch { scratch in
        let backing = try scratch.makeImage("backing.img", sizeBytes: 32 << 20)
        let device = try scratch.attachLoop(backing)
        let refused = try Daemon.launch(
          in: scratch, ["--export", "a=\(backing)", "--export", "b=\(device)"], socket: scratch.file("x.sock"))
        let status = refused.child.wait(seconds: 10)
        #expect(status != nil && status != .exited(0), "\(refused.log)")
      }
    }

    @Test(
      needsRoot, needs("mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"),
      arguments: ["tmpfs", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"])
    func everyFileSystemIsServed(kind: String) throws {
      try withScratch { scratch in
        let directory =
          if kind == "tmpfs" {
            try scratch.mountTmpfs(sizeBytes: 64 << 20)
          } else {
            try scratch.mountFileSystem(["/sbin/" + kind, "-q"], sizeBytes: 400 << 20)
          }
        let image = directory + "/disk.img"
        try run("/usr/bin/truncate", ["-s", "32M", image], seconds: 5).orThrow()
        let daemon = try Daemon.start(in: scratch, [image])
        try expectWorkingImage(daemon.client())
        try daemon.stop()
      }
    }

    @Test(arguments: [("127.0.0.1:0", false), ("[::1]:0", true)])
    func loopbackAddressesAreServedAndTold(address: String, isV6: Bool) throws {
      try withDaemon(["--tcp", address]) { daemon, _, _ in
        let host = isV6 ? "[::1]" : "127.0.0.1"
        let prefix = "nbd://\(host):"
        var told: UInt16?
        // It is told once all sockets listen, a moment after the first of them can be connected to.
        _ = eventually(seconds: 10) {
          let uri = daemon.log.split(whereSeparator: \.isWhitespace).first { $0.hasPrefix(prefix) }
          told = uri.flatMap { UInt16($0.dropFirst(prefix.count).prefix { $0.isNumber }) }
          return told != nil
        }
        let port = try #require(told, "\(daemon.log)")
        let client = RawClient(try RawSocket(loopback: port, v6: isV6))
        try client.enter()
        #expect(try client.read(0, 4096).isSuccess)
      }
    }

    @Test func anAddressThatOthersReachNeedsToBeAllowed() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 1 << 20)
        let refused = try Daemon.launch(in: scratch, ["--tcp", "0.0.0.0:0", image], socket: scratch.file("x.sock"))
        #expect(refused.child.wait(seconds: 10) == .exited(64))
        #expect(refused.log.contains("--allow-plaintext"))
      }
    }

    /// Two exports of one file are one image: what is written through one is read through the other.
    @Test func twoNamesOfOneFileShareIt() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 8 << 20)
        let daemon = try Daemon.start(in: scratch, ["--export", "a=\(image)", "--export", "b=\(image)"])
        let a = try daemon.client("a")
        let b = try daemon.client("b")
        #expect(try a.write(4096, filled(7, 4096)).isSuccess)
        try expectSame(b.read(4096, 4096).data, filled(7, 4096))
        #expect(try b.call(Cmd.flush).isSuccess)
        try daemon.stop()
      }
    }

    @Test func anImageIsMadeWhenAsked() throws {
      try withScratch { scratch in
        let image = scratch.file("new.img")
        let daemon = try Daemon.start(in: scratch, ["--create", "--size", "3G", image])
        #expect(try daemon.client().export.sizeBytes == 3 << 30)
        #expect(try allocatedBytes(image) < 1 << 20)
        try daemon.stop()
      }
    }
  }
}
