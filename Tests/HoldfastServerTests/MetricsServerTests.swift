// The metrics endpoint with clients of every kind. It shares nothing with the clients of NBD but the locks of a moment.

import BlockBackend
import DaemonHarness
import EventLoops
import Foundation
import HoldfastServer
import NBDClient
import NBDServerCore
import Reports
import Syscalls
import TestBackends
import Testing

@Suite struct MetricsServerTests {
  /// A server with its endpoint on a free port of 127.0.0.1.
  private final class Endpoint {
    let server: InProcessServer
    let metrics: MetricsServer
    let port: UInt16

    init(_ backend: any BlockBackend = MemoryBackend(sizeBytes: 1 << 20)) throws {
      server = try InProcessServer(backend)
      metrics = MetricsServer(server.server, version: "1.2.3")
      port = try metrics.listen(tcp: .ipv4(bytes: [127, 0, 0, 1], port: 0)).port!
    }

    deinit { metrics.close() }

    /// Everything that is answered to these bytes.
    func say(_ request: String) throws -> String {
      let socket = try RawSocket(loopback: port)
      try socket.send(Array(request.utf8))
      return String(decoding: try socket.receiveUntilEnd(), as: UTF8.self)
    }

    func get(_ path: String) throws -> (head: String, body: String) {
      let answer = try say("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
      let parts = answer.split(separator: "\r\n\r\n", maxSplits: 1)
      return (String(parts[0]), parts.count == 2 ? String(parts[1]) : "")
    }
  }

  @Test func whatIsThereIsAnswered() throws {
    let endpoint = try Endpoint()
    let client = try endpoint.server.client()
    #expect(try client.read(0, 512).isSuccess)
    let metrics = try endpoint.get("/metrics")
    #expect(metrics.head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"))
    #expect(metrics.body.contains("\nholdfast_requests_total{export=\"disk\",op=\"read\"} 1\n"))
    #expect(metrics.body.contains("\nholdfast_build_info{version=\"1.2.3\"} 1\n"))
    #expect(metrics.body.contains("\nprocess_resident_memory_bytes "))
    #expect(try endpoint.get("/status.json").body.hasPrefix("{\"schema\":1,"))
    #expect(try endpoint.get("/").body.hasPrefix("<!doctype html>"))
    #expect(try endpoint.get("/map.svg?export=disk").body.hasPrefix("<svg "))
    #expect(try endpoint.get("/map.svg?export=none").head.hasPrefix("HTTP/1.1 404 "))
    #expect(try endpoint.get("/nothing").head.hasPrefix("HTTP/1.1 404 "))
  }

  @Test func otherSitesAndOtherMethodsAreRefused() throws {
    let endpoint = try Endpoint()
    #expect(try endpoint.say("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").hasPrefix("HTTP/1.1 421 "))
    let posted = try endpoint.say("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
    #expect(posted.hasPrefix("HTTP/1.1 405 ") && posted.contains("\r\nAllow: GET, HEAD\r\n"))
    #expect(try endpoint.say("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").hasSuffix("\r\n\r\n"))
    #expect(try endpoint.say(String(repeating: "x", count: 20_000)).hasPrefix("HTTP/1.1 431 "))
    #expect(try endpoint.say("\u{0}\r\n\r\n").hasPrefix("HTTP/1.1 400 "))
  }

  /// Whatever address is listened at, and whoever sends the browser here.
  @Test func pagesOfOtherSitesLearnNothing() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let metrics = MetricsServer(server.server, version: "")
    defer { metrics.close() }
    let port = try metrics.listen(tcp: .ipv4(bytes: [0, 0, 0, 0], port: 0)).port!
    func status(_ path: String, host: String = "localhost", _ fields: String = "") throws -> String {
      let socket = try RawSocket(loopback: port)
      try socket.send(Array("GET \(path) HTTP/1.1\r\nHost: \(host)\r\n\(fields)\r\n".utf8))
      let answer = String(decoding: try socket.receiveUntilEnd(), as: UTF8.self)
      #expect(answer.contains("\r\nCross-Origin-Resource-Policy: same-origin\r\n"))
      return String(answer.dropFirst(9).prefix(3))
    }
    #expect(try status("/metrics", host: "evil.example:\(port)") == "421")
    #expect(try status("/metrics", host: "192.0.2.1:\(port)") == "200")
    let foreign = "Sec-Fetch-Site: cross-site\r\n"
    #expect(try status("/status.json", foreign) == "403")
    #expect(try status("/status.json", "Sec-Fetch-Site: same-site\r\n") == "403")
    #expect(try status("/status.json", foreign + "Sec-Fetch-Mode: navigate\r\n") == "403")
    #expect(try status("/", foreign + "Sec-Fetch-Mode: navigate\r\n") == "200")
    #expect(try status("/", foreign + "Sec-Fetch-Mode: no-cors\r\n") == "403")
    #expect(try status("/status.json", "Sec-Fetch-Site: same-origin\r\n") == "200")
    #expect(try status("/status.json", "Sec-Fetch-Site: none\r\n") == "200")
  }

  /// As many as may be there at all, and as many as there are threads that have begun to speak: the next one is answered at once.
  @Test func aScraperNeedNotWaitForTheSilent() throws {
    let endpoint = try Endpoint()
    let silent = try (0..<40).map { _ in try RawSocket(loopback: endpoint.port) }
    for socket in silent.suffix(8) { try socket.send([0x47]) }
    #expect(try endpoint.get("/metrics").head.hasPrefix("HTTP/1.1 200 "))
    // Who had begun has kept its place, and its time is not over.
    try silent[39].send(Array("ET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8))
    #expect(String(decoding: try silent[39].receiveUntilEnd(), as: UTF8.self).hasPrefix("HTTP/1.1 200 "))
    for socket in silent { socket.close() }
  }

  /// Clients that say nothing, or say it byte by byte, keep nobody from being answered, neither here nor at NBD.
  @Test func silentClientsStopNobody() throws {
    let endpoint = try Endpoint()
    let silent = try (0..<60).map { _ in try RawSocket(loopback: endpoint.port) }
    for (index, socket) in silent.enumerated() where index.isMultiple(of: 2) { try? socket.send([0x47]) }
    let client = try endpoint.server.client()
    #expect(try client.read(0, 512).isSuccess)
    for socket in silent { socket.close() }
    let isServed = eventually(seconds: 20) { (try? endpoint.get("/metrics").head.hasPrefix("HTTP/1.1 200 ")) == true }
    #expect(isServed)
  }

  @Test func aUnixSocketHasItsModeAndGoes() throws {
    let server = try InProcessServer(MemoryBackend(sizeBytes: 1 << 20))
    let metrics = MetricsServer(server.server, version: "")
    let path = FileManager.default.temporaryDirectory.appending(path: "metrics-\(UUID().uuidString)").path
    try metrics.listen(unixPath: path, mode: 0o600)
    let socket = try RawSocket(unix: path)
    try socket.send(Array("GET /metrics HTTP/1.1\r\nHost: anything\r\n\r\n".utf8))
    #expect(String(decoding: try socket.receiveUntilEnd(), as: UTF8.self).hasPrefix("HTTP/1.1 200 "))
    let attributes = try FileManager.default.attributesOfItem(atPath: path)
    #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
    metrics.close()
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  /// A cell that is being written keeps what was known of it; nobody waits for the picture, and the picture for nobody.
  @Test func theMapOfAnImageIsDrawnBesideItsWriters() throws {
    let gate = GateBackend(MemoryBackend(sizeBytes: 16 << 20))
    let endpoint = try Endpoint(gate)
    defer { gate.open() }
    let client = try endpoint.server.client()
    #expect(try client.write(0, bytes(1, 4 << 20)).isSuccess)
    gate.close(.write)
    try client.submit(Cmd.write, offset: 8 << 20, length: 4096, payload: bytes(1, 4096))
    #expect(gate.waitUntilHeld(.write))
    let isDrawn = eventually(seconds: 10) {
      let map = (try? endpoint.get("/map.svg?export=disk").body) ?? ""
      return map.contains("map-full") && map.contains("map-hole")
    }
    #expect(isDrawn)
    #expect(try endpoint.get("/map.svg?export=disk").body.contains("map-unknown"))
    gate.open()
    #expect(try client.receiveReply().isSuccess)
  }

  /// A file system that may hang is not asked for a picture.
  @Test func theMapOfARemoteImageStaysUnknown() throws {
    let gate = GateBackend(remoteMemory(sizeBytes: 16 << 20))
    let endpoint = try Endpoint(gate)
    for _ in 0..<3 { #expect(try endpoint.get("/map.svg?export=disk").body.contains("map-unknown")) }
    // A look would come from another thread.
    usleep(200_000)
    #expect(!gate.arrived.contains { $0.kind == .extents })
  }
}
