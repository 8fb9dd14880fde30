// Chromium without a window, steered through a pair of pipes (the DevTools protocol): pages, what they say on their console, and
// pictures of them. Where it is not installed, the tests that need it are skipped.

import DaemonHarness
import Foundation
import Glibc

final class Browser {
  /// The program; nil when it is not installed.
  static let program = find("chromium")

  private let pid: pid_t
  private let toBrowser: Int32
  private let fromBrowser: Int32
  private var received: [UInt8] = []
  private var lastID = 0
  private var session: String?
  /// Errors and warnings of the page's console, exceptions, resources that did not load.
  private(set) var complaints: [String] = []

  /// Starts it with a profile in `scratch`.
  init(in scratch: Scratch) throws {
    guard let program = Browser.program else { throw HarnessError("chromium is not installed") }
    var toPipe: [Int32] = [0, 0]
    var fromPipe: [Int32] = [0, 0]
    guard pipe(&toPipe) == 0, pipe(&fromPipe) == 0 else { throw HarnessError("pipe: \(errnoText())") }
    for end in [toPipe[1], fromPipe[0]] { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    // Numbers that are neither 3 nor 4, which are wanted.
    let child = (reads: fcntl(toPipe[0], F_DUPFD_CLOEXEC, 10), writes: fcntl(fromPipe[1], F_DUPFD_CLOEXEC, 10))
    close(toPipe[0])
    close(fromPipe[1])
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, child.reads, 3)
    posix_spawn_file_actions_adddup2(&actions, child.writes, 4)
    let log = scratch.file("chromium.log")
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    let arguments = [
      program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
      "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
      "--force-color-profile=srgb", "--user-data-dir=\(scratch.file("chromium"))", "--remote-debugging-pipe",
      "about:blank",
    ]
    let environment: [String] = ["PATH=/usr/bin:/bin", "HOME=\(scratch.path)", "LANG=C.UTF-8"]
    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { (text: String) in strdup(text) }
    argv.append(nil)
    var envp: [UnsafeMutablePointer<CChar>?] = environment.map { (text: String) in strdup(text) }
    envp.append(nil)
    defer { for pointer in argv + envp { free(pointer) } }
    var pid: pid_t = 0
    let code = posix_spawn(&pid, program, &actions, nil, &argv, &envp)
    close(child.reads)
    close(child.writes)
    guard code == 0 else { throw HarnessError("cannot start \(program): \(errnoText(code))") }
    self.pid = pid
    (toBrowser, fromBrowser) = (toPipe[1], fromPipe[0])
    let target = try call("Target.createTarget", ["url": "about:blank"])["targetId"] as? String ?? ""
    session = try call("Target.attachToTarget", ["targetId": target, "flatten": true])["sessionId"] as? String
    for domain in ["Page", "Runtime", "Log"] { try call("\(domain).enable") }
  }

  deinit {
    close(toBrowser)
    close(fromBrowser)
    // Without its pipe it ends by itself.
    let hasEnded = eventually(seconds: 5) { waitpid(pid, nil, WNOHANG) != 0 }
    if !hasEnded {
      kill(pid, SIGKILL)
      waitpid(pid, nil, 0)
    }
  }

  /// The size of the window, CSS pixels, and whether the page is to be dark.
  func show(width: Int, height: Int, isDark: Bool = false) throws {
    try call(
      "Emulation.setDeviceMetricsOverride",
      ["width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600])
    try call(
      "Emulation.setEmulatedMedia",
      ["features": [["name": "prefers-color-scheme", "value": isDark ? "dark" : "light"]]])
  }

  func open(_ url: String) throws { try call("Page.navigate", ["url": url]) }

  /// The value of a JavaScript expression.
  func evaluate(_ expression: String) throws -> Any? {
    let answer = try call("Runtime.evaluate", ["expression": expression, "returnByValue": true])
    if let details = answer["exceptionDetails"] { throw HarnessError("\(expression): \(details)") }
    return (answer["result"] as? [String: Any])?["value"]
  }

  /// Writes what is seen as PNG, from the top of the page.
  func takePicture(_ path: String) throws {
    let answer = try call("Page.captureScreenshot", ["format": "png"])
    guard let text = answer["data"] as? String, let data = Data(base64Encoded: text) else {
      throw HarnessError("the browser made no picture")
    }
    try data.write(to: URL(filePath: path))
  }

  @discardableResult
  private func call(_ method: String, _ parameters: [String: Any] = [:]) throws -> [String: Any] {
    lastID += 1
    var message: [String: Any] = ["id": lastID, "method": method, "params": parameters]
    if let session { message["sessionId"] = session }
    let bytes = Array(try JSONSerialization.data(withJSONObject: message)) + [0]
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes { write(toBrowser, $0.baseAddress, $0.count) }
      guard count > 0 else { throw HarnessError("the browser is gone: \(errnoText())") }
      sent += count
    }
    let deadline = monotonicSeconds() + 30
    while true {
      let answer = try receive(until: deadline, method)
      note(answer)
      guard answer["id"] as? Int == lastID else { continue }
      if let error = answer["error"] { throw HarnessError("\(method): \(error)") }
      return answer["result"] as? [String: Any] ?? [:]
    }
  }

  private func receive(until deadline: Double, _ what: String) throws -> [String: Any] {
    while true {
      if let end = received.firstIndex(of: 0) {
        let message = Data(received[..<end])
        received.removeSubrange(...end)
        return try JSONSerialization.jsonObject(with: message) as? [String: Any] ?? [:]
      }
      var events = pollfd(fd: fromBrowser, events: Int16(POLLIN), revents: 0)
      guard poll(&events, 1, Int32(max(0, deadline - monotonicSeconds()) * 1000)) > 0 else {
        throw HarnessError("the browser does not answer to \(what)")
      }
      var room = [UInt8](repeating: 0, count: 1 << 20)
      let count = read(fromBrowser, &room, room.count)
      guard count > 0 else { throw HarnessError("the browser is gone") }
      received += room[..<count]
    }
  }

  private func note(_ message: [String: Any]) {
    let parameters = message["params"] as? [String: Any] ?? [:]
    switch message["method"] as? String {
    case "Runtime.exceptionThrown": complaints.append("\(parameters["exceptionDetails"] ?? "")")
    case "Runtime.consoleAPICalled":
      if let type = parameters["type"] as? String, ["error", "warning", "assert"].contains(type) {
        complaints.append("\(type): \(parameters["args"] ?? "")")
      }
    case "Log.entryAdded":
      if let entry = parameters["entry"] as? [String: Any], entry["level"] as? String == "error" {
        complaints.append("\(entry["text"] ?? "") \(entry["url"] ?? "")")
      }
    default: break
    }
  }
}
