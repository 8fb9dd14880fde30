// A server in the process of the test, so that its backend can be held, broken and cut off.

import BlockBackend
import DaemonHarness
import Dispatch
import EventLoops
import Foundation
import HoldfastServer
import Logging
import NBDClient
import NBDServerCore
import Synchronization
import TestBackends

/// A server on a Unix socket of its own.
final class InProcessServer {
  let server: Server
  let image: Image
  private let directory: URL
  let path: String
  private var isStopped = false

  convenience init(
    _ backend: any BlockBackend, guards: GuardSwitches = .allStand, limits: Limits = Limits(), isReadOnly: Bool = false,
    coldReads: ColdReadMode = .ofEnvironment, workersMax: Int = Server.workersMax, log: (any LogHandler)? = nil
  ) throws {
    let lanes = Lanes(workersAwakeMax: Server.workersAwakeMax(cpus: 2), workersMax: workersMax)
    let image = Image(backend: backend, lanes: lanes, guards: guards)
    let export = Export(name: "disk", aliases: [""], isReadOnly: isReadOnly, image: image)
    try self.init(exports: [export], image: image, guards: guards, limits: limits, coldReads: coldReads, log: log)
  }

  init(
    exports: [Export], image: Image, guards: GuardSwitches = .allStand, limits: Limits = Limits(),
    coldReads: ColdReadMode = .ofEnvironment, log: (any LogHandler)? = nil
  ) throws {
    self.image = image
    // As the daemon does: sendfile raises it when the client is gone.
    signal(SIGPIPE, SIG_IGN)
    directory = FileManager.default.temporaryDirectory.appending(path: "holdfast-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    path = directory.appending(path: "s").path
    var logger = Logger(label: "test") { _ in log ?? SwiftLogNoOpLogHandler() }
    if log == nil { logger.logLevel = .critical }
    server = Server(exports: exports, limits: limits, cpus: 2, coldReads: coldReads, logger: logger, guards: guards)
    try server.listen(unixPath: path, mode: 0o600)
  }

  deinit {
    stop()
    try? FileManager.default.removeItem(at: directory)
  }

  /// A client in the transmission phase.
  func client(structured: Bool = true, timeoutSeconds: Int = 30) throws -> RawClient {
    let client = RawClient(try RawSocket(unix: path, timeoutSeconds: timeoutSeconds))
    try client.enter(export: "", structured: structured)
    return client
  }

  /// A client that has said nothing yet.
  func socket(timeoutSeconds: Int = 30) throws -> RawSocket {
    try RawSocket(unix: path, timeoutSeconds: timeoutSeconds)
  }

  /// Begins what SIGTERM does, and does not wait for it.
  func beginStop() -> Stopping {
    isStopped = true
    return Stopping(server)
  }

  /// Stops it as SIGTERM does.
  @discardableResult
  func stop() -> Server.End? {
    guard !isStopped else { return nil }
    isStopped = true
    let ended = DispatchSemaphore(value: 0)
    let result = Box<Server.End>()
    server.shutDown { end in
      result.value = end
      ended.signal()
    }
    ended.wait()
    return result.value
  }
}

/// A shutdown that is under way.
final class Stopping: Sendable {
  private let hasEnded = Atomic<Bool>(false)

  fileprivate init(_ server: Server) {
    server.shutDown { [self] _ in hasEnded.store(true, ordering: .sequentiallyConsistent) }
  }

  var isOver: Bool { hasEnded.load(ordering: .sequentiallyConsistent) }

  func ends(withinSeconds seconds: Double) -> Bool { eventually(seconds: seconds) { isOver } }
}

/// Carries a value from another thread; a semaphore orders the accesses.
final class Box<Value>: @unchecked Sendable {
  var value: Value?
}

extension RawClient {
  /// Nothing comes within a time that is long for a server on the same machine.
  func staysSilent(milliseconds: Int32 = 150) -> Bool { !socket.isReadable(withinMilliseconds: milliseconds) }
}

/// Memory whose every call runs on the slow lane, so that a held one holds no worker.
func remoteMemory(sizeBytes: UInt64) -> MemoryBackend {
  MemoryBackend(
    geometry: Geometry(sizeBytes: sizeBytes), capabilities: Capabilities.memory.subtracting(.local))
}

func bytes(_ value: UInt8, _ count: Int) -> [UInt8] { [UInt8](repeating: value, count: count) }
