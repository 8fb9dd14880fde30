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
  /// Clients at once; further ones are told to come back. A scraper needs one, a browser two or three for each page.
  private static let clientsMax = 32
  private static let threadsMax = 4
  /// From accept to the end of the request, and then to the end of the answer.
  private static let patienceNanoseconds: Int64 = 5_000_000_000
  /// How long a client may take to see that the answer is complete.
  private static let lingerNanoseconds: Int64 = 500_000_000

  private let server: Server
  private let version: String
  private let mapper = ImageMapper()
  private let loop = EventLoop(label: "holdfast.metrics")
  private let clients: SlowLane.Queue
  private let clientCount = Atomic<Int>(0)
  private let listeners = Locked<[Open]>([])

  private struct Open: Sendable {
    let listener: Listener
    let file: UnixSocketFile?
  }

  /// - Parameter version: of the program.
  package init(_ server: Server, version: String) {
    self.server = server
    self.version = version
    clients = SlowLane(name: "metrics", threadsMax: MetricsServer.threadsMax, idleSeconds: Lanes.idleSeconds)
      .queue(runningMax: MetricsServer.threadsMax)
  }

  /// Listens on a TCP address; port 0 takes a free one. Any thread.
  /// - Returns: the address with its real port.
  package func listen(tcp address: SocketAddress) throws(Errno) -> SocketAddress {
    let socket = try Sockets.listenTCP(address)
    let bound = try Sockets.localAddress(socket.number) ?? address
    // Where only this machine connects, a name in the request that is not one of this machine is a trick of a web page.
    try add(socket, file: nil, checksHost: bound.isLocal)
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

  /// Accepts no more, and removes the files. Once; any thread.
  package func close() {
    for open in listeners.withLock({ exchange(&$0, with: []) }) {
      open.listener.close()
      open.file?.remove()
    }
  }

  // MARK: One client

  private func accept(_ socket: consuming OwnedDescriptor, checksHost: Bool) {
    let count = clientCount.add(1, ordering: .relaxed).newValue
    let handoff = Handoff(socket)
    if count > MetricsServer.clientsMax {
      // A short answer fits any socket: the loop does not wait for it.
      let socket = handoff.take()
      let bytes = HTTPResponse(.unavailable, "too many clients").bytes(to: .get)
      _ = try? Sockets.send(socket.number, bytes.rawBytes, flags: .dontWait)
      clientCount.subtract(1, ordering: .relaxed)
      return
    }
    clients.submit { [self] in
      let socket = handoff.take()
      serve(socket.number, checksHost: checksHost)
      clientCount.subtract(1, ordering: .relaxed)
    }
  }

  private func serve(_ socket: Int32, checksHost: Bool) {
    do throws(Errno) {
      try Sockets.setNonblocking(socket, true)
      let (method, response) = try receive(socket, checksHost: checksHost)
      try send(response.bytes(to: method), to: socket)
      finish(socket)
    } catch {
      // The client is gone, or too slow: there is nobody to tell.
    }
  }

  private func receive(_ socket: Int32, checksHost: Bool) throws(Errno) -> (HTTPRequest.Method, HTTPResponse) {
    var patience = Patience(MetricsServer.patienceNanoseconds)
    var buffer = IOBuffer(count: HTTPRequest.headBytesMax)
    var filled = 0
    while true {
      switch HTTPRequest.parse([UInt8](copying: buffer.bytes.extracting(first: filled))) {
      case .complete(let request):
        if checksHost, let host = request.host, !isOurHost(host) {
          return (request.method, HTTPResponse(.misdirected, "this server answers to its address and to localhost"))
        }
        return (request.method, respond(to: request))
      case .refused(let status): return (.get, HTTPResponse(status))
      case .needsMore: break
      }
      do throws(Errno) {
        var room = buffer.mutableBytes(in: filled..<buffer.count)
        let count = try Sockets.recv(socket, into: &room, flags: .dontWait)
        if count == 0 { throw .connectionReset }
        filled += count
      } catch .resourceTemporarilyUnavailable {
        guard try patience.wait(socket, for: .receive) else { return (.get, HTTPResponse(.requestTimeout)) }
      } catch {
        guard error == .interrupted else { throw error }
      }
    }
  }

  private func send(_ bytes: [UInt8], to socket: Int32) throws(Errno) {
    var patience = Patience(MetricsServer.patienceNanoseconds)
    var sent = 0
    while sent < bytes.count {
      do throws(Errno) {
        sent += try Sockets.send(socket, bytes.rawBytes.extracting(droppingFirst: sent), flags: .dontWait)
      } catch .resourceTemporarilyUnavailable {
        guard try patience.wait(socket, for: .send) else { throw .timedOut }
      } catch {
        guard error == .interrupted else { throw error }
      }
    }
  }

  /// Waits a moment for the client to close: closing first, with something unread, would reset the connection and might take the
  /// answer away.
  private func finish(_ socket: Int32) {
    Sockets.shutdown(socket, .writing)
    var patience = Patience(MetricsServer.lingerNanoseconds)
    var scratch = IOBuffer(count: 4096)
    while true {
      do throws(Errno) {
        var room = scratch.mutableBytes
        guard try Sockets.recv(socket, into: &room, flags: .dontWait) > 0, patience.isLeft else { return }
      } catch .resourceTemporarilyUnavailable {
        do throws(Errno) {
          guard try patience.wait(socket, for: .receive) else { return }
        } catch { return }
      } catch {
        guard error == .interrupted else { return }
      }
    }
  }

  // MARK: Answers

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

/// Time for one exchange, however many waits it takes.
private struct Patience {
  private let end: Int64

  init(_ nanoseconds: Int64) { end = MonotonicClock.nanoseconds + nanoseconds }

  var isLeft: Bool { MonotonicClock.nanoseconds < end }

  /// - Returns: false when it is over.
  mutating func wait(_ socket: Int32, for wanted: Sockets.Readiness) throws(Errno) -> Bool {
    let left = end - MonotonicClock.nanoseconds
    guard left > 0 else { return false }
    do throws(Errno) {
      return try !Sockets.wait(socket, for: wanted, milliseconds: Int(left / 1_000_000) + 1).isEmpty
    } catch .interrupted {
      return true
    }
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
