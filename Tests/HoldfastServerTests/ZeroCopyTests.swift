// READs that are sent from the file itself: what arrives is what the file holds, for as long as the client likes to take.

import BlockBackend
import DaemonHarness
import Foundation
import HoldfastServer
import NBDClient
import SparseFile
import TestBackends
import Testing

/// A read-only server of a file with known contents.
private final class StillServer {
  let contents: [UInt8]
  let file: ImageFile
  let server: InProcessServer
  private let scratch: URL

  init(mib: Int) throws {
    var random = SplitMix(seed: 4711)
    var words = [UInt64](repeating: 0, count: mib << 17)
    for index in words.indices { words[index] = random.next() }
    contents = unsafe words.withUnsafeBytes { unsafe Array($0) }
    scratch = FileManager.default.temporaryDirectory.appending(path: "holdfast-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
    try Data(contents).write(to: scratch.appending(path: "image"))
    file = try ImageFile.open(
      path: .init(scratch.appending(path: "image").path), options: OpenOptions(readOnly: true))
    server = try InProcessServer(file, isReadOnly: true)
  }

  deinit { try? FileManager.default.removeItem(at: scratch) }

  var path: String { scratch.appending(path: "image").path }
}

@Suite(.serialized) struct ZeroCopyTests {
  @Test(arguments: [true, false])
  func whatArrivesIsWhatTheFileHolds(structured: Bool) throws {
    let seed = UInt64.random(in: 0 ... .max)
    var random = SplitMix(seed: seed)
    let still = try StillServer(mib: 16)
    let client = try still.server.client(structured: structured)
    var expected: [UInt64: Range<Int>] = [:]
    for _ in 0..<400 {
      let isLarge = Bool.random(using: &random)
      let length = Int.random(in: 1...(isLarge ? 3 << 20 : 100_000), using: &random)
      let offset = Int.random(in: 0...still.contents.count - length, using: &random)
      let cookie = try client.submit(Cmd.read, offset: UInt64(offset), length: UInt32(length))
      expected[cookie] = offset..<offset + length
      while expected.count > Int.random(in: 0..<12, using: &random) {
        let reply = try client.receiveReply()
        let asked = expected.removeValue(forKey: reply.cookie)
        let range = try #require(asked)
        let isRight = reply.data == Array(still.contents[range])
        #expect(isRight, "seed \(seed): \(range)")
        guard isRight else { return }
      }
    }
    while !expected.isEmpty {
      let reply = try client.receiveReply()
      let asked = expected.removeValue(forKey: reply.cookie)
      let range = try #require(asked)
      #expect(reply.data == Array(still.contents[range]), "seed \(seed): \(range)")
    }
    #expect(eventually(seconds: 5) { still.file.lentCount == 0 })
  }

  @Test func theFileIsLentUntilTheClientHasReadIt() throws {
    let still = try StillServer(mib: 32)
    let client = try still.server.client()
    for _ in 0..<3 { try client.submit(Cmd.read, offset: 0, length: 32 << 20) }
    #expect(eventually(seconds: 5) { still.file.lentCount == 3 })
    // Nothing of it lies in our memory.
    #expect(still.server.server.chargedBytes < 1 << 20)
    // A writer is not let in meanwhile, and from now on nothing more is lent.
    #expect(throws: ImageOpenError.self) { try ImageFile.open(path: .init(still.path)) }
    for _ in 0..<3 { #expect(try client.receiveReply().data == still.contents) }
    #expect(eventually(seconds: 5) { still.file.lentCount == 0 })
    let writable = try ImageFile.open(path: .init(still.path))
    #expect(try client.read(0, 32 << 20).data == still.contents)
    #expect(still.file.lentCount == 0)
    _ = writable
  }

  @Test func aClientThatGoesGivesTheFileBack() throws {
    let still = try StillServer(mib: 8)
    for _ in 0..<4 {
      let client = try still.server.client()
      for _ in 0..<8 { try client.submit(Cmd.read, offset: 0, length: 8 << 20) }
      #expect(eventually(seconds: 5) { still.file.lentCount > 0 })
      client.socket.close()
    }
    #expect(eventually(seconds: 5) { still.file.lentCount == 0 })
    #expect(try still.server.client().read(0, 1 << 20).data == Array(still.contents[..<(1 << 20)]))
  }

  /// More unread replies than may wait: the connection is not read until the client reads.
  @Test func unreadRepliesAreBounded() throws {
    let still = try StillServer(mib: 4)
    let client = try still.server.client()
    for _ in 0..<300 { try client.submit(Cmd.read, offset: 0, length: 1 << 20) }
    #expect(eventually(seconds: 5) { still.file.lentCount >= 60 })
    #expect(!eventually(seconds: 0.2) { still.file.lentCount > 80 })
    for _ in 0..<300 { #expect(try client.receiveReply().data.count == 1 << 20) }
  }

  /// Somebody cuts the file against all locks: the header has promised what is not there.
  @Test func aFileThatEndsInsideAReplyEndsTheConnection() throws {
    let still = try StillServer(mib: 32)
    let client = try still.server.client()
    try client.submit(Cmd.read, offset: 0, length: 32 << 20)
    #expect(eventually(seconds: 5) { still.file.lentCount == 1 })
    #expect(unsafe truncate(still.path, 16 << 20) == 0)
    #expect(throws: (any Error).self) { try client.receiveReply() }
    #expect(eventually(seconds: 5) { still.file.lentCount == 0 })
    #expect(try still.server.client().read(0, 1 << 20).data == Array(still.contents[..<(1 << 20)]))
  }
}
