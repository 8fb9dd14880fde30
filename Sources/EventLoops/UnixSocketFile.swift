// The file of a listening Unix socket: made, taken over and removed without harming anybody else's.
//
// All of it happens under an exclusive flock of the directory, from the first look to `listen`. So of two starters the second
// sees a socket that listens, never one that is bound but does not answer yet; and no lock file is left behind.

import Synchronization
import Syscalls
import SystemPackage

/// Why a Unix socket could not be made: for the operator.
package struct UnixSocketError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Reason: Sendable, Equatable {
    /// Somebody listens there.
    case inUse
    /// Something that is not a socket stands there.
    case notASocket
    /// Another process has held the lock of the directory for two seconds.
    case directoryIsLocked
    case failed(call: String, Errno)
  }

  package let path: String
  package let reason: Reason

  package init(path: String, reason: Reason) {
    self.path = path
    self.reason = reason
  }

  package var description: String {
    switch reason {
    case .inUse: "cannot listen on \(path): another process listens there"
    case .notASocket: "cannot listen on \(path): the file that stands there is not a socket"
    case .directoryIsLocked: "cannot listen on \(path): another process keeps its directory locked"
    case .failed(let call, let error): "cannot listen on \(path): \(call): \(error)"
    }
  }
}

/// The name of a listening socket, to be removed when it is closed.
package struct UnixSocketFile: Sendable {
  package let path: String
  private let identity: Sockets.FileIdentity

  /// Socket and file; a tuple cannot hold noncopyable values.
  package struct Listening: ~Copyable, Sendable {
    package let file: UnixSocketFile
    private let socket: OwnedDescriptor

    fileprivate init(file: UnixSocketFile, socket: consuming OwnedDescriptor) {
      self.file = file
      self.socket = socket
    }

    package consuming func takeSocket() -> OwnedDescriptor { socket }
  }

  private static let lockAttempts = 200
  private static let lockRetryMilliseconds = 10

  /// Makes a socket file with permissions `mode`, whatever the umask, and listens. A socket on which nobody listens is
  /// replaced. Blocks for two seconds at most, when another process holds the lock of the directory.
  package static func listen(
    path: String, mode: UInt32, backlog: Int32 = 1024
  ) throws(UnixSocketError) -> Listening {
    let lock = try lockDirectory(of: path)
    // To the end: the lock lives as long as the descriptor.
    defer { _ = lock.number }
    try removeIfStale(path)
    let address = SocketAddress.unix(path: path)
    let socket = try call("socket", path) { () throws(Errno) in try Sockets.stream(for: address) }
    // bind makes the file with this mode less the umask: never wider than wanted, and until `listen` nobody can connect.
    try call("fchmod", path) { () throws(Errno) in try Sockets.setModeBeforeBind(socket.number, mode) }
    try call("bind", path) { () throws(Errno) in try Sockets.bind(socket.number, to: address) }
    guard case .socket(let identity) = try call("lstat", path, { () throws(Errno) in try Sockets.lookUp(path) }) else {
      throw UnixSocketError(path: path, reason: .failed(call: "lstat", .noSuchFileOrDirectory))
    }
    try call("chmod", path) { () throws(Errno) in try Sockets.setMode(path, mode) }
    try call("listen", path) { () throws(Errno) in try Sockets.listen(socket.number, backlog: backlog) }
    return Listening(file: UnixSocketFile(path: path, identity: identity), socket: socket)
  }

  /// Removes the file if it is still the one that was made. When that cannot be done, it stays: the next start takes it over.
  package func remove() {
    guard let lock = try? UnixSocketFile.lockDirectory(of: path) else { return }
    defer { _ = lock.number }
    if (try? Sockets.lookUp(path)) == .socket(identity) { try? Sockets.unlink(path) }
  }

  private static func removeIfStale(_ path: String) throws(UnixSocketError) {
    switch try call("lstat", path, { () throws(Errno) in try Sockets.lookUp(path) }) {
    case .nothing: return
    case .somethingElse: throw UnixSocketError(path: path, reason: .notASocket)
    case .socket: break
    }
    // Any other answer than "nobody listens" comes from somebody who does, or proves nothing. Non-blocking: with a full
    // backlog connect would wait.
    do throws(Errno) {
      let probe = try Sockets.stream(for: .unix(path: path))
      try Sockets.setNonblocking(probe.number, true)
      try Sockets.connect(probe.number, to: .unix(path: path))
    } catch .connectionRefused {
      return try call("unlink", path) { () throws(Errno) in try Sockets.unlink(path) }
    } catch {}
    throw UnixSocketError(path: path, reason: .inUse)
  }

  private static func lockDirectory(of path: String) throws(UnixSocketError) -> OwnedDescriptor {
    let directory = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let descriptor = try call("open \(directory)", path) { () throws(Errno) in
      try Sockets.openDirectory(directory)
    }
    for _ in 0..<lockAttempts {
      do throws(Errno) {
        try Sockets.tryLock(descriptor.number)
        return descriptor
      } catch {
        if error != .wouldBlock && error != .interrupted {
          throw UnixSocketError(path: path, reason: .failed(call: "flock \(directory)", error))
        }
      }
      sleepMilliseconds(UInt64(lockRetryMilliseconds))
    }
    throw UnixSocketError(path: path, reason: .directoryIsLocked)
  }

  private static func call<Value: ~Copyable>(
    _ name: String, _ path: String, _ body: () throws(Errno) -> Value
  ) throws(UnixSocketError) -> Value {
    do throws(Errno) {
      return try body()
    } catch {
      throw UnixSocketError(path: path, reason: .failed(call: name, error))
    }
  }
}
