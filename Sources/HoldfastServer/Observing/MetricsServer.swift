// The metrics endpoint: HTTP for a scraper, an operator's browser, nobody else. On a loop and threads of its own, so that whatever
// its clients do, those of NBD never notice.

import BlockBackend
import EventLoops
import Locking
import Logging
import NBDServerCore
import Reports
import Synchronization
import Syscalls
import SystemPackage

package final class MetricsServer: Sendable {
  /// Clients at once. A scraper needs one, a browser two or three for each page. For one more the oldest silent one goes; when
  /// there is none, the new one is told to come back.
  private static let clientsMax = 32
  private static let threadsMax = 4
  private static let tickMilliseconds = 200

  private let server: Server
  private let version: String
  private let mapper = ImageMapper()
  private let loop = EventLoop(label: "holdfast.metrics")
  private let threads: SlowLane.Queue
  private let room = Locked(Room())
  private let closed = Atomic<Bool>(false)
  private let listeners = Locked<[Open]>([])
  /// Of this machine; nil: not known.
  private let hostName: String?

  private struct Open: Sendable {
    let listener: Listener
    let file: UnixSocketFile?
  }

  private struct Room {
    var clients: [ObjectIdentifier: MetricsClient] = [:]
    /// While there are clients.
    var tick: LoopTimer?
  }

  /// - Parameter version: of the program.
  package init(_ server: Server, version: String) {
    self.server = server
    self.version = version
    threads = SlowLane(name: "metrics", threadsMax: MetricsServer.threadsMax, idleSeconds: Lanes.idleSeconds)
      .queue(runningMax: MetricsServer.threadsMax)
    hostName = try? Files.text(of: "/proc/sys/kernel/hostname")
  }

  /// Listens on a TCP address; port 0 takes a free one. Any thread.
  /// - Returns: the address with its real port.
  package func listen(tcp address: SocketAddress) throws(Errno) -> SocketAddress {
    let socket = try Sockets.listenTCP(address)
    let bound = try Sockets.localAddress(socket.number) ?? address
    // A web page can make a browser connect here under a name of its own, wherever we listen.
    try add(socket, file: nil, checksHost: true)
    return bound
  }

  /// Listens on a Unix socket that is made with `mode`, and removed by `close`. Any thread.
  package func listen(unixPath path: String, mode: UInt32) throws(UnixSocketError) {
    let listening = try UnixSocketFile.listen(path: path, mode: mode)
    let file = listening.file
    do throws(Errno) { try add(listening.takeSocket(), file: file, checksHost: false) } catch {
      throw UnixSocketError(path: path, reason: .failed(call: "fcntl", error))
    }
  }

  private func add(_ socket: consuming OwnedDescriptor, file: UnixSocketFile?, checksHost: Bool) throws(Errno) {
    let listener = try Listener(
      socket, loop: loop, onAccept: { [self] socket, _ in accept(socket, checksHost: checksHost) },
      onEvent: { [server] event in
        if case .paused(let errno) = event {
          server.logger.warning("no client of the metrics can be accepted: \(errno)")
        }
      })
    listeners.withLock { $0.append(Open(listener: listener, file: file)) }
  }

  /// Accepts no more, drops the clients, and removes the files. Once; any thread.
  package func close() {
    for open in listeners.withLock({ exchange(&$0, with: []) }) {
      open.listener.close()
      open.file?.remove()
    }
    closed.store(true, ordering: .sequentiallyConsistent)
    for client in clients { client.closeIfWaiting() }
  }

  // MARK: Clients

  private var clients: [MetricsClient] { room.withLock { Array($0.clients.values) } }

  var isClosed: Bool { closed.load(ordering: .sequentiallyConsistent) }

  private func accept(_ socket: consuming OwnedDescriptor, checksHost: Bool) {
    guard !isClosed else { return }
    if room.withLock({ $0.clients.count }) >= MetricsServer.clientsMax, !makeRoom() {
      // A short answer fits any socket: the loop does not wait for it.
      let bytes = HTTPResponse(.unavailable, "too many clients").bytes(to: .get)
      _ = try? Sockets.send(socket.number, bytes.rawBytes, flags: .dontWait)
      return
    }
    let client = MetricsClient(socket, loop: loop, server: self, checksHost: checksHost)
    let needsTick = room.withLock { room in
      room.clients[ObjectIdentifier(client)] = client
      return room.tick == nil
    }
    if needsTick { startTicking() }
    client.begin()
    // `close` may have looked before it was there.
    if isClosed { client.closeIfWaiting() }
  }

  /// Drops who has said nothing for longest, or else who has been answered and stays.
  private func makeRoom() -> Bool {
    let candidates = clients.compactMap { client in client.worth.map { (client, $0) } }
      .sorted { ($0.1, $0.0.acceptedNanoseconds) < ($1.1, $1.0.acceptedNanoseconds) }
    return candidates.contains { $0.0.closeIfWaiting() }
  }

  private func startTicking() {
    let timer = loop.every(milliseconds: MetricsServer.tickMilliseconds) { [self] in tick() }
    room.withLock { $0.tick = timer }
  }

  private func tick() {
    let now = MonotonicClock.nanoseconds
    for client in clients where client.isOverdue(at: now) { client.closeIfWaiting() }
    room.withLock { room in room.clients.isEmpty ? exchange(&room.tick, with: nil) : nil }?.cancel()
  }

  /// It is closed.
  func forget(_ client: MetricsClient) {
    _ = room.withLock { $0.clients.removeValue(forKey: ObjectIdentifier(client)) }
  }

  /// Runs `job` on a thread that may wait for the locks of the server.
  func run(_ job: @escaping @Sendable () -> Void) { threads.submit(job) }

  // MARK: Answers

  func respond(to request: HTTPRequest, checksHost: Bool) -> HTTPResponse {
    if checksHost, let host = request.host, !isOurHost(host, machine: hostName) {
      return HTTPResponse(.misdirected, "this server answers to its address, to localhost and to its host name")
    }
    guard request.mayBeAnswered else { return HTTPResponse(.forbidden, "other sites may only link to /") }
    return respond(to: request)
  }

  private func respond(to request: HTTPRequest) -> HTTPResponse {
    switch request.path {
    case "/": HTTPResponse(.html, dashboardPage)
    case "/metrics": HTTPResponse(.metrics, metricsText(status, process: .ofThisProcess(server.statistics)))
    case "/status.json": HTTPResponse(.json, statusJSON(status) + "\n")
    case "/map.svg":
      if let name = request.query["export"],
        let image = server.servedExports.first(where: { $0.status.name == name })?.image
      {
        HTTPResponse(.svg, mapper.map(of: image).svg)
      } else {
        HTTPResponse(.notFound, "there is no such export")
      }
    default: HTTPResponse(.notFound, "there are /, /metrics and /status.json")
    }
  }

  private var status: ServerStatus {
    var status = server.status()
    status.version = version
    return status
  }
}

extension ProcessStatus {
  /// Nil where /proc is not mounted.
  fileprivate static func ofThisProcess(_ statistics: ServerStatistics) -> ProcessStatus? {
    do throws(Errno) {
      let text = try Files.text(of: "/proc/self/stat")
      guard
        var status = ProcessStatus(stat: text, ticksPerSecond: clockTicksPerSecond(), pageBytes: UInt64(pageBytes()))
      else { return nil }
      status.openDescriptors = try Files.names(in: "/proc/self/fd").count
      status.descriptorsMax = try DescriptorLimit.current().soft
      status.startSeconds = statistics.startedSeconds
      return status
    } catch {
      return nil
    }
  }
}
