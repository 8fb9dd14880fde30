// What a client must not be able to do to the others.

import BlockBackend
import DaemonHarness
import Dispatch
import Foundation
import HoldfastServer
import Logging
import NBDClient
import NBDServerCore
import TestBackends
import Testing

@Suite(.serialized) struct HostileClientTests {
  /// Replies that were owed when a client broke the protocol stay with that client.
  @Test func repliesToABrokenHandshakeReachNobodyElse() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let other = try server.client()
    #expect(try other.read(0, 512).isSuccess)
    for _ in 0..<10 {
      let bad = try RawSocket(unix: server.path, timeoutSeconds: 5)
      _ = try bad.receive(18)
      try bad.send([0, 0, 0, 3] + optionBytes(Option.list) + bytes(0xee, 16))
      // Its own replies come first, then the end.
      #expect(try !bad.receiveUntilEnd().isEmpty)
      // A refused WRITE takes the path on which replies to options go out.
      #expect(try other.write(1 << 20, bytes(1, 512)).error == NBDErrno.noSpace)
    }
  }

  /// A list of exports may be longer than any buffer of a worker.
  @Test func longListIsSentWhole() throws {
    let image = Image(backend: MemoryBackend(sizeBytes: 1 << 20), lanes: Lanes(workersAwakeMax: 16))
    let exports = (0..<400).map {
      Export(name: "e\($0)", description: String(repeating: "d", count: 4000), isReadOnly: false, image: image)
    }
    let server = try InProcessServer(exports: exports, image: image)
    let client = RawClient(try RawSocket(unix: server.path, timeoutSeconds: 10))
    try client.greet()
    let replies = try client.option(Option.list)
    #expect(replies.count == 401)
  }

  /// A batch holds thousands of small requests; all but a bounded number wait in the socket, and all are answered.
  @Test func requestsInFlightAreLimited() throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 1 << 20))
    let server = try InProcessServer(gate)
    let client = try server.client()
    gate.close(.write)
    try client.submit(Cmd.write, offset: 0, length: 4096, payload: bytes(1, 4096))
    #expect(gate.waitUntilHeld(.write))
    let count = 5000
    var stream: [UInt8] = []
    for number in 0..<count {
      client.expect(Cmd.trim, cookie: UInt64(number), offset: 0, length: 512)
      stream += requestBytes(Cmd.trim, cookie: UInt64(number), offset: 0, length: 512)
    }
    let sent = try client.socket.sendWithoutWaiting(stream)
    var peak = 0
    _ = eventually(seconds: 0.3) {
      peak = max(peak, server.image.lockCounts.waiting)
      return false
    }
    #expect(peak > 500)
    #expect(peak <= Limits().requestsInFlightMax)
    gate.open()
    try client.socket.send(Array(stream.dropFirst(sent)))
    for _ in 0...count { #expect(try client.receiveReply().isSuccess) }
  }

  /// What was received and waits for more is memory too.
  @Test func parkedBytesAreCharged() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let client = try server.client()
    try client.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: 256 << 10) + bytes(1, 250 << 10))
    #expect(eventually(seconds: 5) { server.server.chargedBytes >= 250 << 10 })
    client.socket.close()
    #expect(eventually(seconds: 5) { server.server.chargedBytes == 0 })
  }

  /// The oldest incomplete payload may use the reserve. Whoever keeps that place with a byte now and then loses it.
  @Test func byteNowAndThenIsNotProgress() throws {
    var limits = Limits()
    limits.totalBytesMax = 64 << 20
    limits.stallSeconds = 1
    let server = try InProcessServer(remoteMemory(sizeBytes: 32 << 20), limits: limits)
    let attacker = try server.client()
    try attacker.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: 32 << 20))
    // Two that cannot both fit into what the reserve leaves.
    let clients = try (0..<2).map { _ in try server.client() }
    let done = DispatchGroup()
    let answered = [Box<Bool>(), Box<Bool>()]
    for (index, client) in clients.enumerated() {
      DispatchQueue.global().async(group: done) {
        answered[index].value = (try? client.write(0, bytes(1, 32 << 20)).isSuccess) ?? false
      }
    }
    let isDone = eventually(seconds: 20) {
      _ = try? attacker.socket.sendWithoutWaiting([1])
      return done.wait(timeout: .now() + 0.2) == .success
    }
    #expect(isDone)
    done.wait()
    #expect(answered.allSatisfy { $0.value == true })
  }

  /// Nobody reads from a connection that waits for memory; that its client has gone is noticed all the same.
  @Test func goneClientDoesNotWaitForMemory() throws {
    var limits = Limits()
    limits.totalBytesMax = 64 << 20
    let server = try InProcessServer(remoteMemory(sizeBytes: 64 << 20), limits: limits)
    let (holder, waiter) = (try server.client(), try server.client())
    let almost = (32 << 20) - 4096
    try holder.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: 32 << 20) + bytes(1, almost))
    #expect(eventually(seconds: 5) { server.server.chargedBytes >= 32 << 20 })
    // All but the reserve is in use: this one has to wait, with what it sent.
    try waiter.socket.send(requestBytes(Cmd.write, cookie: 1, offset: 0, length: 32 << 20) + bytes(2, 300 << 10))
    #expect(eventually(seconds: 5) { server.server.chargedBytes > (32 << 20) + (32 << 10) })
    #expect(!eventually(seconds: 0.2) { false })
    waiter.socket.close()
    #expect(eventually(seconds: 5) { server.server.connectionCount == 1 })
  }
}
