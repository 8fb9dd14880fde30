// A child process by posix_spawn: output to a file, stopped by its own pid only, and killed when the test process exits before
// it does.

import Glibc
import Locking

package enum ExitStatus: Equatable, CustomStringConvertible {
  case exited(Int32)
  case signaled(Int32)

  package var description: String {
    switch self {
    case .exited(let code): "exit status \(code)"
    case .signaled(let signal): "signal \(signal)"
    }
  }
}

private let living = Locked<Set<pid_t>>([])
private let killAtExit: Void = {
  atexit { for pid in living.withLock({ $0 }) { kill(pid, SIGKILL) } }
}()

package final class Child {
  package let pid: pid_t
  package let outputPath: String
  private var ended: ExitStatus?

  /// Starts `path` with `arguments`; stdout and stderr both go to `outputPath`.
  package init(_ path: String, _ arguments: [String], outputPath: String, environment extra: [String] = []) throws {
    _ = killAtExit
    self.outputPath = outputPath
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, outputPath, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    // The test runner may have blocked or ignored signals that the child must get.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    var pid: pid_t = 0
    let inherited = currentEnvironment().filter { !$0.hasPrefix("PATH=") }
    let environment =
      inherited + ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SWIFT_BACKTRACE=enable=no"]
      + extra
    let code = withCStrings([path] + arguments) { argv in
      withCStrings(environment) { envp in posix_spawnp(&pid, path, &actions, &attributes, argv, envp) }
    }
    guard code == 0 else { throw HarnessError("cannot start \(path): \(errnoText(code))") }
    self.pid = pid
    living.withLock { _ = $0.insert(pid) }
  }

  package var output: String { text(of: outputPath) }

  package func signal(_ number: Int32) { if ended == nil { kill(pid, number) } }

  /// The status, when the process has ended.
  package func status() -> ExitStatus? {
    if let ended { return ended }
    var raw: Int32 = 0
    guard waitpid(pid, &raw, WNOHANG) == pid else { return nil }
    living.withLock { _ = $0.remove(pid) }
    let number = raw & 0x7f
    ended = number == 0 ? .exited((raw >> 8) & 0xff) : .signaled(number)
    return ended
  }

  /// Waits for the end, at most `seconds`.
  package func wait(seconds: Double) -> ExitStatus? {
    _ = eventually(seconds: seconds) { status() != nil }
    return ended
  }

  /// SIGTERM, then SIGKILL; for what is not under test.
  package func end() {
    if status() != nil { return }
    signal(SIGTERM)
    if wait(seconds: 3) != nil { return }
    signal(SIGKILL)
    _ = wait(seconds: 10)
  }
}

/// What a tool said and how it ended.
package struct ToolResult {
  package var command: String
  package var status: ExitStatus
  package var output: String

  /// The output without its last newline.
  package var line: String { output.last == "\n" ? String(output.dropLast()) : output }

  @discardableResult
  package func orThrow() throws -> ToolResult {
    guard status == .exited(0) else { throw HarnessError("\(command): \(status)\n\(output)") }
    return self
  }
}

/// Runs a tool to its end, at most `seconds`; stdout and stderr come back together.
@discardableResult
package func run(_ path: String, _ arguments: [String], seconds: Double) throws -> ToolResult {
  var template = Array("/tmp/holdfast-tool-XXXXXX".utf8CString)
  let descriptor = mkstemp(&template)
  guard descriptor >= 0 else { throw HarnessError("mkstemp: \(errnoText())") }
  close(descriptor)
  let outputPath = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  defer { unlink(outputPath) }
  let child = try Child(path, arguments, outputPath: outputPath)
  let command = ([path] + arguments).joined(separator: " ")
  guard let status = child.wait(seconds: seconds) else {
    child.signal(SIGKILL)
    _ = child.wait(seconds: 10)
    throw HarnessError("\(command) took more than \(seconds) s\n\(child.output)")
  }
  return ToolResult(command: command, status: status, output: child.output)
}

/// Runs a line of shell with `set -e -o pipefail` in bash.
@discardableResult
package func shell(_ script: String, seconds: Double) throws -> ToolResult {
  try run("/bin/bash", ["-e", "-o", "pipefail", "-c", script], seconds: seconds)
}

/// Where `tool` is, nil when it is not installed.
package func find(_ tool: String) -> String? {
  for directory in ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"] {
    let path = directory + "/" + tool
    if access(path, X_OK) == 0 { return path }
  }
  return nil
}

private func currentEnvironment() -> [String] {
  var result: [String] = []
  var at = environ
  while let entry = at.pointee {
    result.append(String(cString: entry))
    at += 1
  }
  return result
}

private func withCStrings<T>(
  _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> T
) -> T {
  var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
  pointers.append(nil)
  defer { for pointer in pointers { free(pointer) } }
  return body(pointers)
}
