// One client of the metrics endpoint, from accept to close. It waits on the loop and has a thread only while there is something to
// do, so clients that are silent, slow, or stay when they have been answered keep no other from being served.

import BlockBackend
import EventLoops
import Locking
import Reports
import Syscalls
import SystemPackage

final class MetricsClient: ChannelOwner {
  /// From accept to the first byte.
  private static let silenceNanosecondsMax: Int64 = 1_000_000_000
  /// From accept to the end of the request, and then to the end of the answer.
  private static let patienceNanoseconds: Int64 = 5_000_000_000
  /// How long it may take to see that the answer is complete: closing first, with something unread, would reset the connection
  /// and might take the answer away.
  private static let lingerNanoseconds: Int64 = 500_000_000

  private enum Phase { case receiving, sending, lingering }

  private struct State {
    var phase = Phase.receiving
    var head: [UInt8] = []
    var answer: [UInt8] = []
    var sent = 0
    /// Nanoseconds of the monotonic clock.
    var deadline: Int64
    /// A thread has it, or is about to.
    var isBusy = false
    var isClosed = false
  }

  private enum Next { case readable, writable, close }

  let acceptedNanoseconds = MonotonicClock.nanoseconds
  private let channel: Channel
  private let server: MetricsServer
  private let checksHost: Bool
  private let state: Locked<State>

  /// Call `begin` once it is known to the server.
  init(_ socket: consuming OwnedDescriptor, loop: EventLoop, server: MetricsServer, checksHost: Bool) {
    channel = Channel(socket, loop: loop)
    self.server = server
    self.checksHost = checksHost
    state = Locked(State(deadline: acceptedNanoseconds + MetricsClient.silenceNanosecondsMax))
    channel.setOwner(self)
  }

  func begin() { channel.awaitReadable() }

  /// What is lost if it is dropped now. Nil: something that was begun.
  enum Worth: Comparable { case silent, answered }

  var worth: Worth? {
    state.withLock { state in
      switch state.phase {
      case _ where state.isBusy || state.isClosed: nil
      case .lingering: .answered
      case .receiving: state.head.isEmpty ? .silent : nil
      case .sending: nil
      }
    }
  }

  func isOverdue(at now: Int64) -> Bool { state.withLock { !$0.isBusy && now >= $0.deadline } }

  /// Any thread. Not while a thread has it: that one closes it when the server is closed.
  /// - Returns: whether it was closed here.
  @discardableResult
  func closeIfWaiting() -> Bool {
    let mustClose = state.withLock { state in
      if state.isBusy || state.isClosed { return false }
      state.isClosed = true
      return true
    }
    if mustClose { close() }
    return mustClose
  }

  private func close() {
    channel.close()
    server.forget(self)
  }

  // MARK: On the loop

  func channelIsReadable() { proceed() }
  func channelIsWritable() { proceed() }
  func channelIsHungUp() { proceed() }
  func channelIsLost(_ error: Errno) { closeIfWaiting() }

  private func proceed() {
    let isMine = state.withLock { state in
      if state.isBusy || state.isClosed { return false }
      state.isBusy = true
      return true
    }
    if isMine { server.run { [self] in work() } }
  }

  // MARK: On a thread

  private func work() {
    var next = Next.close
    // A client that is gone: there is nobody to tell.
    do throws(Errno) { next = try step() } catch {}
    let mustClose = state.withLock { state in
      state.isBusy = false
      state.isClosed = next == .close || server.isClosed
      return state.isClosed
    }
    if mustClose { return close() }
    switch next {
    case .readable: channel.awaitReadable()
    case .writable: channel.awaitWritable()
    case .close: break
    }
  }

  private func step() throws(Errno) -> Next {
    switch state.withLock({ $0.phase }) {
    case .receiving:
      guard try receive() else { return .readable }
      return try send() ? linger() : .writable
    case .sending: return try send() ? linger() : .writable
    case .lingering: return try linger()
    }
  }

  /// - Returns: whether there is an answer to send.
  private func receive() throws(Errno) -> Bool {
    var head = state.withLock { $0.head }
    var buffer = IOBuffer(count: HTTPRequest.headBytesMax)
    while true {
      var room = buffer.mutableBytes(in: 0..<HTTPRequest.headBytesMax - head.count)
      guard let count = try received(into: &room) else {
        let kept = head
        state.withLock { state in
          state.head = kept
          if !kept.isEmpty { state.deadline = acceptedNanoseconds + MetricsClient.patienceNanoseconds }
        }
        return false
      }
      if count == 0 { throw .connectionReset }
      head += [UInt8](copying: buffer.bytes.extracting(first: count))
      switch HTTPRequest.parse(head) {
      case .needsMore: continue
      case .refused(let status): answer(HTTPResponse(status).bytes(to: .get))
      case .complete(let request):
        answer(server.respond(to: request, checksHost: checksHost).bytes(to: request.method))
      }
      return true
    }
  }

  private func answer(_ bytes: [UInt8]) {
    state.withLock { state in
      state.phase = .sending
      state.head = []
      state.answer = bytes
      state.deadline = MonotonicClock.nanoseconds + MetricsClient.patienceNanoseconds
    }
  }

  /// - Returns: whether all of it is sent.
  private func send() throws(Errno) -> Bool {
    let bytes = state.withLock { $0.answer }
    var sent = state.withLock { $0.sent }
    while sent < bytes.count {
      do throws(Errno) {
        sent += try Sockets.send(channel.descriptor, bytes.rawBytes.extracting(droppingFirst: sent), flags: .dontWait)
      } catch .resourceTemporarilyUnavailable {
        let done = sent
        state.withLock { $0.sent = done }
        return false
      } catch {
        guard error == .interrupted else { throw error }
      }
    }
    Sockets.shutdown(channel.descriptor, .writing)
    state.withLock { state in
      state.phase = .lingering
      state.answer = []
      state.deadline = MonotonicClock.nanoseconds + MetricsClient.lingerNanoseconds
    }
    return true
  }

  private func linger() throws(Errno) -> Next {
    var scratch = IOBuffer(count: 4096)
    // Not for ever with one that sends and sends.
    for _ in 0..<16 {
      var room = scratch.mutableBytes
      guard let count = try received(into: &room) else { return .readable }
      if count == 0 { return .close }
    }
    return .close
  }

  /// Nil: nothing has come.
  private func received(into room: inout MutableRawSpan) throws(Errno) -> Int? {
    while true {
      do throws(Errno) {
        return try Sockets.recv(channel.descriptor, into: &room, flags: .dontWait)
      } catch .resourceTemporarilyUnavailable {
        return nil
      } catch {
        guard error == .interrupted else { throw error }
      }
    }
  }
}
