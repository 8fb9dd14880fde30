// The admin socket: few clients, each with a thread of its own, which may wait for disks and for other clients; the loop only
// accepts. The file's mode says who may connect.

import BlockBackend
import EventLoops
import Locking
import Logging
import Syscalls
import SystemPackage

final class AdminSocket: Sendable {
  /// Operators and their scripts; each costs a thread.
  static let clientsMax = 16
  /// From the first byte of a line to its end.
  private static let lineSeconds = 10
  /// Between two requests. `holdfast status --watch` asks every second.
  private static let idleSeconds = 300
  /// A client that does not read its replies.
  private static let sendSeconds = 10

  /// Answers one line; on the client's thread.
  typealias Answer = @Sendable (_ line: [UInt8], _ peer: PeerAddress) -> JSON

  private let answer: Answer
  private let logger: Logger
  private let clients = Locked(0)
  private let open = Locked<(listener: Listener, file: UnixSocketFile)?>(nil)

  private init(_ answer: @escaping Answer, _ logger: Logger) {
    self.answer = answer
    self.logger = logger
  }

  /// Listens at `path`, with mode 0600, and answers from now on.
  static func listen(
    path: String, loop: EventLoop, logger: Logger, answer: @escaping Answer
  ) throws(UnixSocketError) -> AdminSocket {
    let listening = try UnixSocketFile.listen(path: path, mode: 0o600, backlog: Int32(clientsMax))
    let file = listening.file
    let socket = AdminSocket(answer, logger)
    do throws(Errno) {
      let listener = try Listener(
        listening.takeSocket(), loop: loop, onAccept: { client, peer in socket.accept(client, peer) },
        onEvent: { _ in })
      socket.open.withLock { $0 = (listener, file) }
    } catch {
      throw UnixSocketError(path: path, reason: .failed(call: "epoll_ctl", error))
    }
    return socket
  }

  /// Accepts no more and removes the file. Clients that are connected stay. Again is fine; any thread.
  func close() {
    guard let open = open.withLock({ exchange(&$0, with: nil) }) else { return }
    open.listener.close()
    open.file.remove()
  }

  // MARK: On the loop, or on the worker that attends: nothing here waits.

  private func accept(_ socket: consuming OwnedDescriptor, _ peer: PeerAddress) {
    let descriptor = socket.take()
    let hasPlace = clients.withLock { count in
      guard count < AdminSocket.clientsMax else { return false }
      count += 1
      return true
    }
    guard hasPlace else {
      let failure = CommandFailure(
        .unavailable, "\(AdminSocket.clientsMax) admin clients are connected, the most there may be; try again later")
      // A few bytes into an empty socket never wait.
      let bytes = Array((AdminReply.failure(failure, id: nil).text + "\n").utf8)
      _ = try? Sockets.send(descriptor, bytes.rawBytes, flags: .dontWait)
      return Sockets.close(descriptor)
    }
    do throws(Errno) {
      try PosixThread.spawn(name: "admin") { [self] in
        serve(descriptor, peer)
        Sockets.close(descriptor)
        clients.withLock { $0 -= 1 }
      }
    } catch {
      Sockets.close(descriptor)
      clients.withLock { $0 -= 1 }
      logger.error("an admin client was turned away: no thread: \(error)")
    }
  }

  // MARK: On the client's thread

  private func serve(_ descriptor: Int32, _ peer: PeerAddress) {
    var lines = LineBuffer()
    do throws(Errno) {
      var deadline = AdminSocket.after(seconds: AdminSocket.idleSeconds)
      var isNewLine = true
      while try receive(descriptor, &lines, deadline) {
        while let line = lines.nextLine() {
          isNewLine = true
          // An empty line is a sign of life of whoever types.
          if !line.isEmpty { try send(descriptor, answer(line, peer)) }
        }
        guard !lines.isTooLong else {
          let failure = CommandFailure(
            .usage, "a line has more than \(LineBuffer.requestBytesMax) bytes; the connection is closed")
          return try send(descriptor, AdminReply.failure(failure, id: nil))
        }
        if isNewLine {
          deadline = AdminSocket.after(seconds: lines.isEmpty ? AdminSocket.idleSeconds : AdminSocket.lineSeconds)
          isNewLine = lines.isEmpty
        }
      }
      // A request is complete when its braces are: its line end may be missing.
      let rest = lines.takeRest()
      if !rest.isEmpty { try send(descriptor, answer(rest, peer)) }
    } catch {
      logger.debug("an admin client is gone: \(error)", metadata: ["peer": "\(peer)"])
    }
  }

  private static func after(seconds: Int) -> Int64 { MonotonicClock.nanoseconds + Int64(seconds) * 1_000_000_000 }

  /// - Returns: false at the end of the stream.
  private func receive(_ descriptor: Int32, _ lines: inout LineBuffer, _ deadline: Int64) throws(Errno) -> Bool {
    let milliseconds = Int(max(0, deadline - MonotonicClock.nanoseconds) / 1_000_000)
    guard try Sockets.wait(descriptor, for: .receive, milliseconds: milliseconds).contains(.receive) else {
      throw .timedOut
    }
    var piece = IOBuffer(count: 4096)
    var room = piece.mutableBytes
    let count = try Sockets.recv(descriptor, into: &room, flags: .dontWait)
    lines.append([UInt8](copying: piece.bytes.extracting(first: count)))
    return count > 0
  }

  private func send(_ descriptor: Int32, _ reply: JSON) throws(Errno) {
    let bytes = Array((reply.text + "\n").utf8)
    var sent = 0
    while sent < bytes.count {
      guard try Sockets.wait(descriptor, for: .send, milliseconds: AdminSocket.sendSeconds * 1000).contains(.send)
      else {
        throw .timedOut
      }
      sent += try Sockets.send(descriptor, bytes.rawBytes.extracting(sent..<bytes.count), flags: .dontWait)
    }
  }
}
