// Block devices, on loop devices.

import BlockBackend
import Foundation
import SparseFile
import Syscalls
import SystemPackage
import TestBackends
import Testing

private let mib: UInt64 = 1 << 20

@Suite(.enabled(if: canMount, "\(whyNoMount)")) struct BlockDeviceTests {
  @Test func geometryIsTheDevices() throws {
    try withLoopDevice(sizeBytes: 5 * mib) { device, _ in
      let image = try ImageFile.open(path: device)
      #expect(image.geometry.sizeBytes == 5 * mib)
      // The page cache reads and writes back pages, whatever the blocks of the device.
      #expect(image.geometry.lockUnitBytes == pageBytes())
      #expect(image.geometry.blockBytesPreferred == 4096)
      #expect(image.capabilities == [.writable, .trim, .fastZero, .cache, .local])
      #expect(image.warnings.isEmpty)
      guard case .blockDevice(let number) = image.identity else {
        Issue.record("\(image.identity)")
        return
      }
      #expect(try number == Files.stat(device).deviceNode)
    }
  }

  /// The kernel refuses to touch a started block at the end.
  @Test func startedBlockAtTheEndIsNotServed() throws {
    try withLoopDevice(sizeBytes: 5 * mib + 3 * 512, ["--sector-size", "4096"]) { device, _ in
      let image = try ImageFile.open(path: device)
      #expect(image.geometry.sizeBytes == 5 * mib)
      #expect(image.warnings.contains { $0.contains("started block of 1536 bytes") })
      try image.write(bytes(4096), at: 5 * mib - 4096)
      #expect(try image.bytes(at: 5 * mib - 4096, 4096) == bytes(4096))
      for options in [[], .noHole, .fast] as [ZeroOptions] {
        try image.zero(5 * mib - 5000..<5 * mib, options)
      }
      try image.trim(5 * mib - 8192..<5 * mib)
      try image.sync()
    }
  }

  @Test func nothingIsToldAboutLayout() throws {
    try withLoopDevice(sizeBytes: 5 * mib) { device, _ in
      let image = try ImageFile.open(path: device)
      #expect(try image.extents(of: 3..<mib, extentsMax: 9) == [Extent(lengthBytes: mib - 3, kind: .data)])
    }
  }

  /// The kernel takes whole blocks only; dirty pages of the device must not be in the way.
  @Test(arguments: [ZeroOptions.noHole, []]) func oddEdgesAreWritten(options: ZeroOptions) throws {
    try withLoopDevice(sizeBytes: 5 * mib) { device, file in
      let script = Script()
      let image = try ImageFile.open(path: device, hook: script.hook)
      try image.write(bytes(100_000), at: 0)
      script.forget()
      try image.zero(700..<50_001, options)
      #expect(script.calls(options.isEmpty ? .punchHole : .zeroRange) == [1024..<49_664])
      #expect(script.calls(.write) == [700..<1024, 49_664..<50_001])
      var wanted = bytes(100_000)
      wanted.replaceSubrange(700..<50_001, with: repeatElement(0, count: 49_301))
      #expect(try image.bytes(at: 0, 100_000) == wanted)
      try image.sync()
      let backing = try Files.open(file)
      #expect(try Files.bytes(of: backing, at: 0, count: 100_000) == wanted)
    }
  }

  @Test func fastZeroIsAPunchOfWholeBlocksOrNothing() throws {
    try withLoopDevice(sizeBytes: 5 * mib) { device, _ in
      let script = Script()
      let image = try ImageFile.open(path: device, hook: script.hook)
      try image.write(bytes(100_000), at: 0)
      script.forget()
      #expect(throws: BackendError(.notSupported, at: 513)) { try image.zero(513..<1500, .fast) }
      #expect(throws: BackendError(.notSupported, at: 0)) { try image.zero(0..<65_536, [.fast, .noHole]) }
      #expect(script.calls.isEmpty)
      #expect(try image.bytes(at: 0, 100_000) == bytes(100_000))
      try image.zero(0..<65_536, .fast)
      #expect(script.calls(.punchHole) == [0..<65_536])
    }
  }

  @Test func trimPunchesElseDiscards() throws {
    try withLoopDevice(sizeBytes: 5 * mib) { device, file in
      let script = Script([.punchHole: [.fail(.notSupported)], .discard: [.perform, .perform, .fail(.notSupported)]])
      let image = try ImageFile.open(path: device, hook: script.hook)
      try image.write(bytes(Int(mib)), at: 0)
      try image.sync()
      let before = try Files.stat(file).allocatedBytes
      script.forget()
      try image.trim(700..<500_000)
      try image.trim(500_000..<mib)
      #expect(script.calls(.punchHole) == [1024..<499_712])
      #expect(script.calls(.discard) == [1024..<499_712, 500_224..<mib])
      #expect(try image.bytes(at: 0, 1024) == Array(bytes(1024)))
      #expect(try Files.stat(file).allocatedBytes < before - 700_000)
      try image.trim(0..<mib)
      try image.trim(0..<mib)
      #expect(script.calls(.discard).count == 3)
    }
  }

  @Test func claimedDeviceIsRefused() throws {
    try withLoopDevice(sizeBytes: 5 * mib) { device, _ in
      let claim = try Files.open(device, .exclusiveDevice)
      let error = try #require(openError(device))
      #expect(error.category == .locked(nil))
      #expect(error.description.contains("mounted or in use"))
      #expect(openError(device, reading) != nil)
      extendLifetime(claim)
    }
  }

  @Test func readersAndWritersOfOneProcessShareTheClaim() throws {
    try withLoopDevice(sizeBytes: 5 * mib) { device, _ in
      do {
        let reader = try ImageFile.open(path: device, options: reading)
        let writer = try ImageFile.open(path: device)
        let second = try ImageFile.open(path: device)
        try writer.write(bytes(4096), at: 4096)
        #expect(try reader.bytes(at: 4096, 4096) == bytes(4096))
        try second.zero(4096..<8192, [])
        #expect(try reader.bytes(at: 4096, 4096) == [UInt8](repeating: 0, count: 4096))
        extendLifetime(second)
        #expect(throws: Errno.resourceBusy) { try Files.open(device, .exclusiveDevice) }
      }
      _ = try Files.open(device, .exclusiveDevice)
    }
  }

  @Test func loopDeviceBesideItsFileIsRefused() throws {
    try withLoopDevice(sizeBytes: 5 * mib) { device, file in
      do {
        let image = try ImageFile.open(path: device)
        let error = try #require(openError(file))
        #expect(error.description.contains("cannot serve \(file) beside \(device)"))
        #expect(try image.bytes(at: 0, 1) == [0])
      }
      let image = try ImageFile.open(path: file)
      #expect(openError(device)?.category == .locked(nil))
      #expect(try image.bytes(at: 0, 1) == [0])
    }
  }

  @Test(.enabled(if: has("addpart"), "needs addpart")) func partitionBesideItsDiskIsRefused() throws {
    try withLoopDevice(sizeBytes: 8 * mib) { device, file in
      try run("addpart", device.string, "1", "2048", "4096")
      defer { _ = try? run("delpart", device.string, "1") }
      let partition = FilePath("\(device)p1")
      for _ in 0..<100 where openError(partition)?.category == .noSuchFile { usleep(10_000) }
      do {
        let image = try ImageFile.open(path: partition)
        #expect(image.geometry.sizeBytes == 2 * mib)
        #expect(try #require(openError(device)).description.contains("beside \(partition)"))
        #expect(openError(file)?.category == .locked(nil))
      }
      let image = try ImageFile.open(path: device)
      #expect(try #require(openError(partition)).description.contains("beside \(device)"))
      #expect(try image.bytes(at: 0, 1) == [0])
    }
  }

  @Test func readOnlyDeviceIsAPermission() throws {
    // Not `blockdev --setro`: that outlives the loop device.
    try withLoopDevice(sizeBytes: 5 * mib, ["--read-only"]) { device, _ in
      #expect(openError(device)?.category == .permission)
      #expect(openError(device, reading) == nil)
    }
  }

  @Test func otherSizeIsRefused() throws {
    try withLoopDevice(sizeBytes: 5 * mib) { device, _ in
      #expect(openError(device, OpenOptions(create: true, sizeBytes: 4 * mib))?.category == .cannotCreate)
      #expect(openError(device, OpenOptions(create: true, sizeBytes: 5 * mib)) == nil)
    }
  }
}
