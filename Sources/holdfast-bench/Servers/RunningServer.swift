// A server of one measurement: started afresh, waited for, ended by its own pid.

import DaemonHarness
import Glibc
import Syscalls

final class RunningServer {
  let kind: ServerKind
  let target: Target
  let commandLine: [String]
  private let child: Child
  /// Of the process that serves; nbd-server's is not the one that was started.
  private(set) var pid: pid_t
  private let serving: Serving

  /// Starts it on `cpus` only, when given, and waits until it can be connected to.
  init(_ kind: ServerKind, _ serving: Serving, cpus: UInt64?, environment: [String] = []) throws {
    self.kind = kind
    self.serving = serving
    commandLine = serving.commandLine(of: kind)
    let address = serving.tcpPort.map { SocketAddress.ipv4(bytes: [127, 0, 0, 1], port: $0) }
    target = Target(address: address ?? .unix(path: serving.socket), export: kind.export)
    unlink(serving.socket)
    unlink(serving.socket + ".pid")
    if let configuration = serving.configuration(of: kind) {
      try writeFile(serving.socket + ".conf", configuration)
    }
    let all = try PosixThread.cpus()
    if let cpus { try PosixThread.run(onCPUs: cpus) }
    defer { if cpus != nil { try? PosixThread.run(onCPUs: all) } }
    child = try Child(
      commandLine[0], Array(commandLine.dropFirst()), outputPath: serving.socket + ".log", environment: environment)
    pid = child.pid
    do { try waitUntilItListens() } catch {
      end()
      throw error
    }
  }

  private func waitUntilItListens() throws {
    let isUp = eventually(seconds: 10) {
      if kind.tool == "nbd-server", pid == child.pid {
        guard let own = pid_t(text(of: serving.socket + ".pid").split(separator: "\n").first ?? "") else {
          return false
        }
        pid = own
      }
      guard let connection = try? ClientConnection(to: target) else { return false }
      return (try? connection.disconnect()) != nil
    }
    let log = text(of: serving.socket + ".log")
    if !isUp { throw BenchError("\(commandLine.joined(separator: " ")): nothing answers after 10 s\n\(log)") }
  }

  /// A server that went to the background ends as a zombie until the init process, which may take seconds, looks for it.
  private var hasEnded: Bool {
    let stat = text(of: "/proc/\(pid)/stat")
    guard let end = stat.lastIndex(of: ")") else { return true }
    return stat[end...].hasPrefix(") Z")
  }

  /// What it has said so far.
  var log: String { text(of: serving.socket + ".log") }

  func use(memory: Bool = false) -> ProcessUse { ProcessUse(of: pid, memory: memory) }

  func uri() -> String {
    switch target.address {
    case .unix(let path): "nbd+unix:///\(target.export)?socket=\(path)"
    case .ipv4, .ipv6: "nbd://\(target.address)/\(target.export)"
    }
  }

  func end() {
    if pid != child.pid {
      kill(pid, SIGTERM)
      if !eventually(seconds: 5, { hasEnded }) { kill(pid, SIGKILL) }
    }
    child.end()
    for suffix in ["", ".log", ".conf", ".pid"] { unlink(serving.socket + suffix) }
  }
}

func writeFile(_ path: String, _ text: String) throws {
  guard let file = fopen(path, "w") else { throw BenchError("cannot write \(path): \(errnoText())") }
  let bytes = Array(text.utf8)
  let written = fwrite(bytes, 1, bytes.count, file)
  guard fclose(file) == 0, written == bytes.count else { throw BenchError("cannot write \(path): \(errnoText())") }
}

/// A port of 127.0.0.1 that nobody uses now.
func freePort() throws -> UInt16 {
  let socket = try Sockets.listenTCP(.ipv4(bytes: [127, 0, 0, 1], port: 0))
  guard let port = try Sockets.localAddress(socket.number)?.port else { throw BenchError("no free port") }
  return port
}
