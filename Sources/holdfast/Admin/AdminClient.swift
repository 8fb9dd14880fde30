// The other end of the admin socket: what `holdfast status` and its like use.

import ArgumentParser
import BlockBackend
import Syscalls
import SystemPackage

/// Which daemon is asked.
struct AdminOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The admin socket of the daemon. (default: admin.sock in the runtime directory)", valueName: "path"),
    completion: .file())
  var admin: String?

  func connect() throws(CommandFailure) -> AdminClient {
    if let admin { return try AdminClient(path: admin) }
    guard let path = RuntimeDirectories.ofThisProcess().adminSocket else {
      throw CommandFailure(
        .unavailable,
        "XDG_RUNTIME_DIR is not set, so the place of the admin socket is unknown; ask the daemon of the system as root, or name "
          + "the socket: --admin PATH")
    }
    return try AdminClient(path: path)
  }
}

/// One connection to a daemon. Requests are answered in order.
final class AdminClient {
  /// Replies are the daemon's: a status has a line for each of its connections.
  private static let replyBytesMax = 64 << 20
  /// What does not wait for a client or a disk is answered at once, or the daemon is stuck.
  private static let patienceSeconds = 10

  private let path: String
  private let socket: OwnedDescriptor
  private var lines = LineBuffer(lineBytesMax: AdminClient.replyBytesMax)

  /// - Throws: status 69 when nobody answers there, 77 when one may not ask.
  init(path: String) throws(CommandFailure) {
    self.path = path
    guard !path.isEmpty, path.utf8.count <= SocketAddress.unixPathBytesMax, !path.utf8.contains(0) else {
      throw CommandFailure(
        .usage, "\"\(path)\" is no path of a socket; one has 1 to \(SocketAddress.unixPathBytesMax) bytes")
    }
    do throws(Errno) {
      socket = try Sockets.connect(unix: path, patienceMilliseconds: Int64(AdminClient.patienceSeconds) * 1000)
    } catch {
      guard error != .permissionDenied && error != .notPermitted else {
        throw CommandFailure(
          .noPermission, "you may not talk to the daemon at \(path); be root or the user that runs it")
      }
      guard error != .timedOut else { throw AdminClient.silence(path) }
      let advice = isRunByRoot() ? "start one (systemctl start holdfast)" : "ask the daemon of the system as root"
      throw CommandFailure(
        .unavailable,
        "no daemon answers at \(path) (\(reason(error))); \(advice), or name its socket: --admin PATH")
    }
  }

  /// Sends a request and waits for its reply.
  /// - Parameter isQuick: it waits for nobody, so its reply is only worth waiting for for a while.
  /// - Throws: what the daemon refused, with its status.
  func ask(_ command: AdminCommand, _ keys: [(String, JSON?)] = [], isQuick: Bool = false) throws(CommandFailure)
    -> JSON
  {
    let members = [("schema", JSON.integer(AdminRequest.schema)), ("command", JSON.string(command.rawValue))]
    let all = members + keys.compactMap { name, value in value.map { (name, $0) } }
    let request = JSON.object(all.map { JSON.Member(name: $0.0, value: $0.1) })
    let line: [UInt8]
    do throws(Errno) {
      // One who turns us away has said why before it closed.
      do throws(Errno) { try send(Array((request.text + "\n").utf8)) } catch .brokenPipe {}
      line = try receiveLine(isQuick: isQuick)
    } catch {
      guard error != .timedOut else { throw AdminClient.silence(path) }
      throw CommandFailure(.unavailable, "the daemon at \(path) is gone: \(reason(error))")
    }
    let reply: JSON
    do throws(JSONMistake) { reply = try JSON(parsing: line) } catch {
      throw CommandFailure(
        .internalError, "the daemon at \(path) answers with what cannot be read: \(error.clause)")
    }
    return try result(of: reply)
  }

  private static func silence(_ path: String) -> CommandFailure {
    CommandFailure(
      .unavailable, "the daemon at \(path) does not answer; it hangs, or its machine is busy: look at its log")
  }

  private func result(of reply: JSON) throws(CommandFailure) -> JSON {
    if reply["ok"]?.boolean == true, let result = reply["result"] { return result }
    let status = reply["error"]?["status"]?.integer.flatMap { Int32(exactly: $0) }.flatMap { ExitStatus(rawValue: $0) }
    let message = reply["error"]?["message"]?.string ?? "the daemon at \(path) answers with what is no reply"
    throw CommandFailure(
      status ?? .internalError, lines: message.split(separator: "\n").map { "error: \($0)" })
  }

  private func send(_ bytes: [UInt8]) throws(Errno) {
    var sent = 0
    while sent < bytes.count {
      sent += try Sockets.send(socket.number, bytes.rawBytes.extracting(sent..<bytes.count))
    }
  }

  private func receiveLine(isQuick: Bool) throws(Errno) -> [UInt8] {
    let deadline = MonotonicClock.nanoseconds + Int64(AdminClient.patienceSeconds) * 1_000_000_000
    var piece = IOBuffer(count: 64 << 10)
    while true {
      if let line = lines.nextLine() { return line }
      if lines.isTooLong { throw .messageTooLong }
      let rest = Int(max(0, deadline - MonotonicClock.nanoseconds) / 1_000_000)
      guard try Sockets.wait(socket.number, for: .receive, milliseconds: isQuick ? rest : -1).contains(.receive) else {
        throw .timedOut
      }
      var room = piece.mutableBytes
      let count = try Sockets.recv(socket.number, into: &room)
      if count == 0 { throw .connectionReset }
      lines.append([UInt8](copying: piece.bytes.extracting(first: count)))
    }
  }
}
