// The server under test, when the tool starts it itself (`--server-command`). Servers that fork, or go to the background, are
// adopted: whatever descends from this process is the server, and ends with it.

import CNbd
import Glibc
import Synchronization

final class ServerProcess {
  private let command: String
  private let environment: [String]
  /// Whether there is, or was, a server of this process's own.
  private static let hasStarted = Atomic<Bool>(false)
  /// What descended from this process before: whoever started it may have left it children.
  private static let strangers = Set(descendants(besides: []))

  /// - Parameter environment: NAME=VALUE, on top of this process's own.
  init(_ command: String, environment: [String] = []) throws {
    _ = ServerProcess.strangers
    ServerProcess.hasStarted.store(true, ordering: .relaxed)
    hf_adopt_orphans()
    self.command = command
    self.environment = environment
    try start()
  }

  deinit { kill() }

  /// Starts it and leaves it to the caller to wait until it can be reached.
  func start() throws {
    guard ServerProcess.descendants().isEmpty else { throw TortureFailure("the server before does not end") }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // What a server says belongs to the messages, not to the verdict.
    posix_spawn_file_actions_adddup2(&actions, 2, 1)
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    // The variables are for what the shell starts, and not for the shell.
    let line = environment.map { "export \(quoted($0))\n" }.joined() + command
    var arguments: [UnsafeMutablePointer<CChar>?] = ["/bin/sh", "-c", line].map { (word: String) in strdup(word) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var child: pid_t = 0
    let code = posix_spawn(&child, "/bin/sh", &actions, nil, &arguments, environ)
    guard code == 0 else { throw TortureFailure("cannot start the server: \(String(cString: strerror(code)))") }
  }

  /// SIGKILL to all of it, and waits until it is gone.
  func kill() { ServerProcess.killAll() }

  /// Gives up after a while, and at once on what it may not kill. Any thread.
  static func killAll() {
    guard hasStarted.load(ordering: .relaxed) else { return }
    var spared: Set<pid_t> = []
    for _ in 0..<20_000 {
      // Parents first: a shell says something when its child is killed.
      let pids = descendants().filter { !spared.contains($0) }
      if pids.isEmpty { return }
      for pid in pids where Glibc.kill(pid, SIGKILL) != 0 && errno == EPERM {
        say("holdfast-torture: process \(pid) is of another user and goes on\n")
        spared.insert(pid)
      }
      while waitpid(-1, nil, WNOHANG) > 0 {}
      usleep(500)
    }
  }

  private var hasEnded: Bool {
    while waitpid(-1, nil, WNOHANG) > 0 {}
    return ServerProcess.descendants().isEmpty
  }

  private static func descendants() -> [pid_t] { descendants(besides: strangers) }

  /// Children, their children, and so on, zombies among them.
  private static func descendants(besides strangers: Set<pid_t>) -> [pid_t] {
    var childrenOf: [pid_t: [pid_t]] = [:]
    guard let folder = opendir("/proc") else { return [] }
    defer { closedir(folder) }
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard let pid = pid_t(name), let parent = parent(of: pid) else { continue }
      childrenOf[parent, default: []].append(pid)
    }
    var found: [pid_t] = []
    var open = [getpid()]
    while let pid = open.popLast() {
      let children = (childrenOf[pid] ?? []).filter { !strangers.contains($0) }
      found += children
      open += children
    }
    return found
  }

  private static func parent(of pid: pid_t) -> pid_t? {
    let descriptor = Glibc.open("/proc/\(pid)/stat", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 512)
    let count = read(descriptor, &bytes, bytes.count)
    // PID (NAME) STATE PPID ...; the name may hold anything but ends at the last parenthesis.
    guard count > 0, let end = bytes[..<count].lastIndex(of: UInt8(ascii: ")")) else { return nil }
    let fields = String(decoding: bytes[(end + 1)..<count], as: UTF8.self).split(separator: " ")
    return fields.count > 1 ? pid_t(fields[1]) : nil
  }

  /// A first connection, at the latest after `seconds`.
  func connect(_ uri: String, seconds: Double = 20) throws -> NBDHandle {
    let end = monotonicNanoseconds() + Int64(seconds * 1e9)
    while true {
      let left = Double(end - monotonicNanoseconds()) / 1e9
      do { return try NBDHandle(uri, seconds: max(1, left)) } catch {
        if hasEnded { throw TortureFailure("the server ended before it could be reached: \(command)") }
        guard monotonicNanoseconds() < end else { throw error }
        usleep(20_000)
      }
    }
  }

  private func quoted(_ text: String) -> String {
    "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
  }
}
