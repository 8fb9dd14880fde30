// The server under test, when the tool starts it itself (`--server-command`): a process group of its own, so that the
// children of a forking server end with it.

import Glibc
import Locking

private let living = Locked<Set<pid_t>>([])
private let killAtExit: Void = {
  atexit { for group in living.withLock({ $0 }) { kill(-group, SIGKILL) } }
}()

final class ServerProcess {
  private let command: String
  private let environment: [String]
  private var pid: pid_t = 0

  /// - Parameter environment: NAME=VALUE, on top of this process's own.
  init(_ command: String, environment: [String] = []) throws {
    _ = killAtExit
    self.command = command
    self.environment = environment
    try start()
  }

  deinit { kill() }

  /// Starts it and leaves it to the caller to wait until it can be reached.
  func start() throws {
    precondition(pid == 0, "one server at a time")
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    posix_spawnattr_setpgroup(&attributes, 0)
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // What a server says belongs to the messages, not to the verdict.
    posix_spawn_file_actions_adddup2(&actions, 2, 1)
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    // Through env, so that the variables are the server's and not the shell's.
    let line = (["exec", "env"] + environment.map(quoted) + [command]).joined(separator: " ")
    var arguments: [UnsafeMutablePointer<CChar>?] = ["/bin/sh", "-c", line].map { (word: String) in strdup(word) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var child: pid_t = 0
    let code = posix_spawn(&child, "/bin/sh", &actions, &attributes, &arguments, environ)
    guard code == 0 else { throw TortureFailure("cannot start the server: \(String(cString: strerror(code)))") }
    pid = child
    living.withLock { _ = $0.insert(child) }
  }

  /// SIGKILL, and waits until it is gone.
  func kill() {
    guard pid != 0 else { return }
    Glibc.kill(-pid, SIGKILL)
    var status: Int32 = 0
    while waitpid(pid, &status, 0) == -1, errno == EINTR {}
    living.withLock { _ = $0.remove(pid) }
    pid = 0
  }

  var hasEnded: Bool {
    var status: Int32 = 0
    guard pid != 0, waitpid(pid, &status, WNOHANG) == pid else { return pid == 0 }
    living.withLock { _ = $0.remove(pid) }
    pid = 0
    return true
  }

  /// A first connection, at the latest after `seconds`.
  func connect(_ uri: String, seconds: Double = 20) throws -> NBDHandle {
    let end = monotonicNanoseconds() + Int64(seconds * 1e9)
    while true {
      do { return try NBDHandle(uri) } catch {
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
