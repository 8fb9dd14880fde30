// All sockets that nobody serves, and those that listen, in one epoll set that a single Dispatch source watches.
//
// A Dispatch source for each would cost 1.2 KiB of memory, and libdispatch forgets a socket that has hung up. An entry of an
// epoll set costs the process nothing and forgets nothing.
//
// While sockets become ready in quick succession (clients that connect one after the other), the set is lent to a thread that
// waits for it itself, as a connection is leased to a worker: Dispatch needs two threads and a dozen system calls to tell of
// one event. The source is suspended meanwhile, so that owners are told on one thread at a time.
//
// Lock order: a channel's or listener's state, then the table here.

@unsafe @preconcurrency import Dispatch
import Locking
import Syscalls
import SystemPackage

/// Whose descriptor is in the set.
protocol WatchedSocket: AnyObject, Sendable {
  var descriptor: Int32 { get }
  /// What epoll reports; `generation` is what `add` returned. On the loop, or on the thread that attends.
  func happened(_ events: Epoll.Events, generation: UInt32)
}

/// Tells the owners of sockets that they are ready.
final class SocketWatch: Sendable {
  private let epoll: Epoll
  private let source: any DispatchSourceRead
  private let table = Locked(Table())
  private let lending = Locked(Lending())

  private struct Table {
    /// By descriptor. A socket stays until it is closed.
    var sockets: [(any WatchedSocket)?] = []
    var nextGeneration: UInt32 = 0
  }

  private struct Lending {
    /// Finds a thread that calls `attend` and `takeBack`; false when there is none now.
    var find: (@Sendable () -> Bool)?
    var isLent = false
    var lastNanoseconds: Int64 = 0
    /// Events of the source in quick succession.
    var warmth = 0
  }

  /// Looks at the set per event of the source: other sources of the loop get their turn between.
  private static let looksMax = 16

  /// So many events of the source, none later than this after the one before it, and the set is lent.
  private static let eventsUntilLent = 4
  private static let quickNanoseconds: Int64 = 5_000_000

  init(queue: DispatchQueue) {
    do throws(Errno) {
      epoll = try Epoll()
    } catch {
      fatalError("an event loop needs a descriptor for its epoll set: \(error)")
    }
    source = DispatchSource.makeReadSource(fileDescriptor: epoll.descriptor, queue: queue)
    source.setEventHandler { [weak self] in self?.sourceFired() }
    // The descriptor may be closed only when Dispatch watches it no more.
    source.setCancelHandler { [epoll] in withExtendedLifetime(epoll) {} }
    source.activate()
  }

  deinit {
    // Releasing a suspended source traps.
    if lending.withLock({ $0.isLent }) { source.resume() }
    source.cancel()
  }

  /// Begins to watch a socket. With its lock held. Throws when the system cannot watch one more.
  /// - Returns: what tells its events from those of an earlier socket with the same number.
  func add(_ socket: some WatchedSocket, _ events: Epoll.Events) throws(Errno) -> UInt32 {
    let descriptor = socket.descriptor
    let generation = table.withLock { table in
      while table.sockets.count <= Int(descriptor) { table.sockets.append(nil) }
      table.sockets[Int(descriptor)] = socket
      table.nextGeneration &+= 1
      return table.nextGeneration
    }
    do throws(Errno) {
      try epoll.add(descriptor, events, data: SocketWatch.data(descriptor, generation))
    } catch {
      forget(descriptor)
      throw error
    }
    return generation
  }

  /// Watches again, for other events perhaps. With the socket's lock held.
  func rearm(_ descriptor: Int32, generation: UInt32, _ events: Epoll.Events) {
    do throws(Errno) {
      try epoll.change(descriptor, events, data: SocketWatch.data(descriptor, generation))
    } catch {
      preconditionFailure("a socket that is watched is watched until it is closed: \(error)")
    }
  }

  /// Ends the watch, before the descriptor is closed. With the socket's lock held.
  func remove(_ descriptor: Int32) {
    try? epoll.remove(descriptor)
    forget(descriptor)
  }

  private func forget(_ descriptor: Int32) {
    // The caller holds the socket: it does not end here.
    let socket = table.withLock { table in exchange(&table.sockets[Int(descriptor)], with: nil) }
    withExtendedLifetime(socket) {}
  }

  private static func data(_ descriptor: Int32, _ generation: UInt32) -> UInt64 {
    UInt64(generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
  }

  /// - Returns: how many were ready.
  private func tellWhoIsReady(milliseconds: Int32) -> Int {
    let count = try? epoll.wait(milliseconds: milliseconds) { data, events in
      let descriptor = Int(data & 0xffff_ffff)
      let socket = table.withLock { table in
        descriptor < table.sockets.count ? table.sockets[descriptor] : nil
      }
      socket?.happened(events, generation: UInt32(data >> 32))
    }
    return count ?? 0
  }

  // MARK: On the loop

  private func sourceFired() {
    for _ in 0..<SocketWatch.looksMax {
      if tellWhoIsReady(milliseconds: 0) == 0 { break }
    }
    let now = MonotonicClock.nanoseconds
    let find = lending.withLock { lending -> (@Sendable () -> Bool)? in
      lending.warmth = now - lending.lastNanoseconds < SocketWatch.quickNanoseconds ? lending.warmth + 1 : 0
      lending.lastNanoseconds = now
      guard lending.warmth >= SocketWatch.eventsUntilLent, let find = lending.find else { return nil }
      lending.isLent = true
      source.suspend()
      return find
    }
    if let find, !find() { takeBack() }
  }

  // MARK: Lending

  func onQuickEvents(_ find: @escaping @Sendable () -> Bool) { lending.withLock { $0.find = find } }

  func attend(quietMilliseconds: Int32, wait: (() -> Int) -> Int, told: () -> Void) {
    while wait({ tellWhoIsReady(milliseconds: quietMilliseconds) }) > 0 { told() }
  }

  /// The loop tells owners again.
  func takeBack() {
    lending.withLock { lending in
      lending.isLent = false
      lending.warmth = 0
      source.resume()
    }
  }
}
