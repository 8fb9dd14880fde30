// The built daemon as a child process: started on a Unix socket in the directory of a test, stopped by pid, its exit status
// checked. HOLDFAST_BINARY names another binary to test.

import Glibc
import NBDClient

package final class Daemon {
  package let child: Child
  package let socket: String

  /// The binary under test.
  package static let binary: String = {
    if let path = getenv("HOLDFAST_BINARY") { return String(cString: path) }
    let package = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
    let release = "/\(package)/.build/release/holdfast"
    return exists(release) ? release : "/\(package)/.build/debug/holdfast"
  }()

  /// The binary was built with a sanitizer: what it weighs is the sanitizer's own.
  package static let isSanitized = getenv("HOLDFAST_SANITIZED") != nil

  private init(child: Child, socket: String) {
    self.child = child
    self.socket = socket
  }

  /// Starts `holdfast serve --unix SOCKET arguments` and waits until it can be connected to.
  ///
  /// `tcp` adds a listener on a free port of 127.0.0.1; `limits` is shell that runs before, like `ulimit -n 64`.
  package static func start(
    in scratch: Scratch, _ arguments: [String], tcp: Bool = false, limits: String? = nil,
    environment: [String] = [], socket name: String = "nbd.sock"
  ) throws -> Daemon {
    let socket = scratch.file(name)
    let daemon = try launch(
      in: scratch, arguments, tcp: tcp, limits: limits, environment: environment, socket: socket)
    let isUp = try eventually(seconds: 20) {
      if let status = daemon.child.status() { throw HarnessError("the daemon ended: \(status)\n\(daemon.log)") }
      return (try? RawSocket(unix: socket)) != nil
    }
    guard isUp else { throw HarnessError("nothing listens on \(socket)\n\(daemon.log)") }
    return daemon
  }

  /// Starts `holdfast serve --config FILE`, which has to listen on `socket`, and waits until it can be connected to.
  package static func start(
    in scratch: Scratch, config: String, socket: String, environment: [String] = []
  ) throws -> Daemon {
    guard exists(binary) else { throw HarnessError("no daemon at \(binary): build it first, or set HOLDFAST_BINARY") }
    let child = try Child(
      binary, ["serve", "--config", config], outputPath: scratch.file("daemon-\(monotonicSeconds()).log"),
      // Not the admin socket of this machine.
      environment: ["RUNTIME_DIRECTORY=\(scratch.path)"] + environment)
    scratch.atEnd {
      if child.status() == nil {
        child.signal(SIGKILL)
        _ = child.wait(seconds: 10)
      }
    }
    let daemon = Daemon(child: child, socket: socket)
    let isUp = try eventually(seconds: 20) {
      if let status = child.status() { throw HarnessError("the daemon ended: \(status)\n\(daemon.log)") }
      return (try? RawSocket(unix: socket)) != nil
    }
    guard isUp else { throw HarnessError("nothing listens on \(socket)\n\(daemon.log)") }
    return daemon
  }

  /// Starts without waiting, for daemons that are expected to refuse.
  package static func launch(
    in scratch: Scratch, _ arguments: [String], tcp: Bool = false, limits: String? = nil,
    environment: [String] = [], socket: String
  ) throws -> Daemon {
    guard exists(binary) else { throw HarnessError("no daemon at \(binary): build it first, or set HOLDFAST_BINARY") }
    let all = ["serve", "--unix", socket] + (tcp ? ["--tcp", "127.0.0.1:0"] : []) + arguments
    let log = scratch.file("daemon-\(monotonicSeconds()).log")
    let child =
      if let limits {
        try Child(
          "/bin/bash", ["-c", "\(limits); exec \"$0\" \"$@\"", binary] + all, outputPath: log, environment: environment)
      } else {
        try Child(binary, all, outputPath: log, environment: environment)
      }
    scratch.atEnd {
      if child.status() == nil {
        child.signal(SIGKILL)
        _ = child.wait(seconds: 10)
      }
    }
    return Daemon(child: child, socket: socket)
  }

  package var pid: pid_t { child.pid }
  package var log: String { child.output }

  /// The TCP port, from the URI the daemon prints.
  package func port() throws -> UInt16 {
    var port: UInt16?
    _ = eventually(seconds: 5) {
      let parts = log.split(separator: "nbd://127.0.0.1:", omittingEmptySubsequences: false)
      port = parts.dropFirst().lazy.compactMap { UInt16($0.prefix { $0.isNumber }) }.first
      return port != nil
    }
    guard let port else { throw HarnessError("no nbd://127.0.0.1:PORT in the log:\n\(log)") }
    return port
  }

  package func uri(_ export: String = "") -> String { "nbd+unix:///\(export)?socket=\(socket)" }

  /// A client of its own connection, in transmission.
  package func client(_ export: String = "", structured: Bool = true) throws -> RawClient {
    try RawClient.connect(unix: socket, export: export, structured: structured)
  }

  /// SIGTERM, and the daemon must end with status 0 within 30 s and take its socket with it.
  package func stop() throws {
    child.signal(SIGTERM)
    guard let status = child.wait(seconds: 30) else { throw HarnessError("SIGTERM did not end the daemon\n\(log)") }
    guard status == .exited(0) else { throw HarnessError("the daemon ended with \(status)\n\(log)") }
    guard !exists(socket) else { throw HarnessError("the daemon left its socket behind\n\(log)") }
  }

  package func killAndWait() {
    child.signal(SIGKILL)
    _ = child.wait(seconds: 10)
  }

  // MARK: what the kernel says about it

  package var residentBytes: UInt64 { statusField("VmRSS:").map { $0 * 1024 } ?? 0 }
  package var threadCount: Int { entries("task") }
  /// Without the rings of its workers, which live as long as these do.
  package var descriptorCount: Int {
    descriptors.split(separator: "\n").count { $0.contains(" -> ") && !$0.hasSuffix("[io_uring]") }
  }

  /// What its descriptors are, for messages.
  package var descriptors: String { (try? run("/bin/ls", ["-l", "/proc/\(pid)/fd"], seconds: 5).output) ?? "" }

  private func statusField(_ name: String) -> UInt64? {
    for line in text(of: "/proc/\(pid)/status").split(separator: "\n") where line.hasPrefix(name) {
      return line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { UInt64($0) }
    }
    return nil
  }

  private func entries(_ directory: String) -> Int {
    guard let handle = opendir("/proc/\(pid)/\(directory)") else { return 0 }
    defer { closedir(handle) }
    var count = 0
    while readdir(handle) != nil { count += 1 }
    return count - 2
  }
}

/// A daemon that serves one sparse image as its default export, for the time of `body`; afterwards it must stop cleanly.
package func withDaemon<T>(
  sizeBytes: UInt64 = 64 << 20, _ arguments: [String] = [], tcp: Bool = false, limits: String? = nil,
  _ body: (Daemon, _ image: String, Scratch) throws -> T
) throws -> T {
  try withScratch { scratch in
    let image = try scratch.makeImage(sizeBytes: sizeBytes)
    let daemon = try Daemon.start(in: scratch, arguments + [image], tcp: tcp, limits: limits)
    let result = try body(daemon, image, scratch)
    if daemon.child.status() == nil { try daemon.stop() }
    return result
  }
}
