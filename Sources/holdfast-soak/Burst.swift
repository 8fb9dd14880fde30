// Clients that do not behave, one kind in each round. Whatever the server does with them is right, as long as it keeps nothing
// of them.

import DaemonHarness
import Glibc
import NBDClient

enum Burst: CaseIterable {
  /// Vanish with requests and replies on their way.
  case killed
  /// Ask for megabytes and do not read them.
  case stalled
  /// Announce payloads and send half of them.
  case halfRequests
  /// Come and go without, or in the middle of, a handshake.
  case halfHandshakes
  /// Say what is no protocol.
  case garbage
  /// Thousands that connect, ask once and leave.
  case manyShort

  func run(against target: Target, until end: Double) throws {
    var random = SoakRandom(seed: UInt64(target.port))
    var round = 0
    while monotonicSeconds() < end {
      round += 1
      do { try once(target, &random, until: end) } catch let error as ClientError {
        // What became of such a client does not matter; that the server is there, the others see.
        if case .system(let call, let code) = error, code != EPIPE, code != ECONNRESET {
          throw HarnessError("burst: \(call): \(errnoText(code))")
        }
      }
      usleep(20_000)
    }
  }

  private func connect(_ target: Target, _ random: inout SoakRandom) throws -> RawSocket {
    target.count(connections: 1)
    return random.below(2) == 0
      ? try RawSocket(loopback: target.port, timeoutSeconds: 5) : try RawSocket(unix: target.socket, timeoutSeconds: 5)
  }

  private func entered(_ target: Target, _ random: inout SoakRandom) throws -> RawClient {
    let client = RawClient(try connect(target, &random))
    try client.enter(structured: random.below(2) == 0)
    return client
  }

  /// Above the parts of the clients that behave.
  private func place(_ random: inout SoakRandom) -> UInt64 {
    Target.sizeBytes / 2 + UInt64(random.below(Int(Target.sizeBytes / 2 - (32 << 20)) >> 12)) << 12
  }

  private func once(_ target: Target, _ random: inout SoakRandom, until end: Double) throws {
    switch self {
    case .killed:
      let client = try entered(target, &random)
      var bytes: [UInt8] = []
      for cookie in 0..<UInt64(1 + random.below(40)) {
        let type = [Cmd.read, Cmd.writeZeroes, Cmd.trim, Cmd.flush][random.below(4)]
        let length: UInt32 = type == Cmd.flush ? 0 : 1 << UInt32(12 + random.below(9))
        bytes += requestBytes(type, cookie: cookie, offset: type == Cmd.flush ? 0 : place(&random), length: length)
      }
      try client.socket.send(bytes)
      client.socket.reset()
    case .stalled:
      var clients: [RawClient] = []
      for _ in 0..<8 {
        let client = try entered(target, &random)
        for cookie in 0..<16 as Range<UInt64> {
          try client.socket.send(requestBytes(Cmd.read, cookie: cookie, offset: place(&random), length: 2 << 20))
        }
        clients.append(client)
      }
      usleep(useconds_t(min(2, max(0, end - monotonicSeconds())) * 1e6))
      for client in clients { client.socket.close() }
    case .halfRequests:
      var clients: [RawClient] = []
      for _ in 0..<10 {
        let client = try entered(target, &random)
        let header = requestBytes(
          Cmd.write, cookie: 1, offset: place(&random), length: 1 << UInt32(13 + random.below(12)))
        let part = [UInt8](repeating: 7, count: 1 + random.below(8000))
        try client.socket.send(Array((header + part).prefix(1 + random.below(8000))))
        clients.append(client)
      }
      usleep(useconds_t(min(1, max(0, end - monotonicSeconds())) * 1e6))
      for client in clients { client.socket.reset() }
    case .halfHandshakes:
      var sockets: [RawSocket] = []
      for _ in 0..<20 {
        let socket = try connect(target, &random)
        let bytes = [0, 0, 0, 3] + optionBytes(Option.go, infoOptionData("nothing", [1, 2, 3]))
        try socket.send(Array(bytes.prefix(random.below(bytes.count))))
        sockets.append(socket)
      }
      usleep(200_000)
      for socket in sockets { socket.close() }
    case .garbage:
      let socket = try connect(target, &random)
      let bytes = (0..<random.below(3000)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      try socket.send([0, 0, 0, UInt8(random.below(8))] + bytes)
      socket.close()
    case .manyShort:
      for _ in 0..<200 where monotonicSeconds() < end {
        let client = try entered(target, &random)
        _ = try client.read(place(&random), 4096)
        try client.disconnect()
      }
    }
  }
}
