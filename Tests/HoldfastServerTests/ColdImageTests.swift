// Random READs of an image that is not in memory, on the ring and without it: each byte is what the file holds.

import BlockBackend
import DaemonHarness
import Foundation
import Glibc
import HoldfastServer
import NBDClient
import SparseFile
import SystemPackage
import TestBackends
import Testing

private let sizeBytes = (8 << 20) - 1000

/// What the image holds: no two pages are alike.
private let image: [UInt8] = {
  let words = (0..<UInt64((sizeBytes + 7) / 8)).map { $0 &* 0x9e37_79b9_7f4a_7c15 }
  return Array(unsafe words.withUnsafeBytes { unsafe Array($0) }.prefix(sizeBytes))
}()

private func content(_ range: Range<Int>) -> [UInt8] { Array(image[range]) }

@Suite(.serialized) struct ColdImageTests {
  struct Way: Sendable, CustomTestStringConvertible {
    let fileSystem: FileSystem
    let mode: ColdReadMode
    var testDescription: String { "\(mode) on \(fileSystem)" }
  }

  static let ways: [Way] = [FileSystem.ext4, .xfs].flatMap { fileSystem in
    [ColdReadMode.ring(), .ring(slots: 3), .ring(slots: 0), .threads].map { Way(fileSystem: fileSystem, mode: $0) }
  }

  @Test(arguments: ways) func coldReadsReturnWhatTheFileHolds(way: Way) throws {
    let seed = printedSeed()
    try withImage(way) { path, server in
      try evict(path)
      var random = SplitMix(seed: seed)
      for depth in [1, 2, 7, 64] {
        let client = try server.client(structured: depth.isMultiple(of: 2))
        try readAtRandom(client, depth: depth, count: 16 + 4 * depth, &random, "seed \(seed) depth \(depth)")
        try client.disconnect()
      }
      if case .ring(let slots) = way.mode, slots > 0 { #expect(server.image.ringReadCount > 0) }
    }
  }

  /// Somebody cut the file: EIO, never zeroes, and the rest still reads.
  @Test(arguments: ways) func whatWasCutOffIsAnError(way: Way) throws {
    try withImage(way) { path, server in
      #expect(unsafe truncate(path, 4 << 20) == 0)
      try evict(path)
      let client = try server.client()
      let cut: UInt64 = 4 << 20
      let offsets: [UInt64] = [cut - 4096, cut - 1, cut, cut + 2_000_000, UInt64(sizeBytes) - 4096]
      for offset in offsets { client.expect(Cmd.read, cookie: offset, offset: offset, length: 4096) }
      let requests = offsets.flatMap { requestBytes(Cmd.read, cookie: $0, offset: $0, length: 4096) }
      try client.socket.send(requests)
      for _ in offsets {
        let reply = try client.receiveReply()
        let isThere = reply.cookie == offsets[0]
        #expect(reply.error == (isThere ? 0 : NBDErrno.io), "offset \(reply.cookie)")
        if isThere { #expect(reply.data == content(Int(cut) - 4096..<Int(cut))) }
      }
    }
  }

  /// Clients that go while their reads are in flight leave nothing behind.
  @Test(arguments: ways) func clientsGoWhileTheirReadsAreInFlight(way: Way) throws {
    let seed = printedSeed()
    try withImage(way) { path, server in
      var random = SplitMix(seed: seed)
      for _ in 0..<10 {
        try evict(path)
        let client = try server.client()
        for _ in 0..<64 {
          try client.submit(
            Cmd.read, offset: UInt64.random(in: 0..<UInt64(sizeBytes - 4096), using: &random), length: 4096)
        }
        if Bool.random(using: &random) { client.socket.reset() } else { client.socket.close() }
      }
      #expect(eventually(seconds: 20) { server.server.connectionCount == 0 }, "seed \(seed)")
      #expect(server.server.chargedBytes == 0)
      #expect(server.image.lockCounts == (0, 0))
    }
  }

  /// A stop while reads are in flight: each is answered with its bytes, or refused.
  @Test(arguments: ways) func stopWhileReadsAreInFlight(way: Way) throws {
    try withImage(way) { path, server in
      try evict(path)
      let client = try server.client()
      client.mayBeShutDown = true
      for index in 0..<64 { try client.submit(Cmd.read, offset: UInt64(index << 16), length: 4096) }
      let stopping = server.beginStop()
      for _ in 0..<64 {
        let reply = try client.receiveReply()
        #expect(reply.error == 0 || reply.error == NBDErrno.shutdown)
      }
      #expect(try client.socket.receiveUntilEnd().isEmpty)
      #expect(stopping.ends(withinSeconds: 20))
    }
  }

  private func withImage(_ way: Way, _ body: (String, InProcessServer) throws -> Void) throws {
    try withScratch { scratch in
      let path = try way.fileSystem.image(scratch)
      try Data(content(0..<sizeBytes)).write(to: URL(filePath: path))
      let file = try ImageFile.open(path: FilePath(path))
      let server = try InProcessServer(file, coldReads: way.mode)
      try body(path, server)
      server.stop()
    }
  }

  /// Takes the image out of the page cache.
  private func evict(_ path: String) throws {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    try #require(file >= 0)
    defer { close(file) }
    #expect(fsync(file) == 0)
    #expect(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0)
  }

  /// Keeps `depth` READs outstanding; sends what a reply makes room for in one piece or several.
  private func readAtRandom(
    _ client: RawClient, depth: Int, count: Int, _ random: inout SplitMix, _ context: String
  ) throws {
    var outstanding: [UInt64: Range<Int>] = [:]
    var begun = 0
    while begun < count || !outstanding.isEmpty {
      var bytes: [UInt8] = []
      while begun < count && outstanding.count < depth {
        let range = randomRange(&random)
        let cookie = UInt64(begun + 1)
        client.expect(Cmd.read, cookie: cookie, offset: UInt64(range.lowerBound), length: UInt32(range.count))
        bytes += requestBytes(Cmd.read, cookie: cookie, offset: UInt64(range.lowerBound), length: UInt32(range.count))
        outstanding[cookie] = range
        begun += 1
      }
      try client.socket.send(bytes)
      for _ in 0..<Int.random(in: 1...max(1, outstanding.count), using: &random) {
        let reply = try client.receiveReply()
        guard let range = outstanding.removeValue(forKey: reply.cookie) else {
          Issue.record("nobody asked for \(reply.cookie), \(context)")
          return
        }
        #expect(reply.data == content(range), "\(range), \(context)")
      }
    }
  }

  private func randomRange(_ random: inout SplitMix) -> Range<Int> {
    let lengths = [1, 511, 512, 4095, 4096, 4096, 4097, 16384, 65536, 262_144]
    let length = lengths[Int.random(in: 0..<lengths.count, using: &random)]
    // One in eight touches the end, which is no multiple of a page.
    let last = sizeBytes - length
    let start = Int.random(in: 0..<8, using: &random) == 0 ? last : Int.random(in: 0...last, using: &random)
    return start..<start + length
  }
}
