// All sockets that nobody serves, in one epoll set that a single Dispatch source watches.
//
// A Dispatch source for each would cost 1.2 KiB of memory, and four system calls and two thread switches per event; and
// libdispatch forgets a socket that has hung up. An entry of an epoll set costs the process nothing and forgets nothing.
//
// Lock order: a channel's state, then the table here.

@unsafe @preconcurrency import Dispatch
import Locking
import Syscalls
import SystemPackage

/// Tells channels that their sockets are ready. Events are handled on the loop.
final class SocketWatch: Sendable {
  private let epoll: Epoll
  private let source: any DispatchSourceRead
  private let table = Locked(Table())

  private struct Table {
    /// By descriptor. A channel stays until it is closed.
    var channels: [Channel?] = []
    var nextGeneration: UInt32 = 0
  }

  /// Rounds of `epoll_wait` per event of the source: other sources of the loop get their turn between.
  private static let roundsMax = 4

  init(queue: DispatchQueue) {
    do throws(Errno) {
      epoll = try Epoll()
    } catch {
      fatalError("an event loop needs a descriptor for its epoll set: \(error)")
    }
    source = DispatchSource.makeReadSource(fileDescriptor: epoll.descriptor, queue: queue)
    source.setEventHandler { [weak self] in self?.tellWhoIsReady() }
    // The descriptor may be closed only when Dispatch watches it no more.
    source.setCancelHandler { [epoll] in withExtendedLifetime(epoll) {} }
    source.activate()
  }

  deinit { source.cancel() }

  /// Begins to watch the socket of `channel`. With the channel's lock held. Throws when the system cannot watch one more.
  /// - Returns: what tells its events from those of an earlier socket with the same number.
  func add(_ channel: Channel, _ events: Epoll.Events) throws(Errno) -> UInt32 {
    let descriptor = channel.descriptor
    let generation = table.withLock { table in
      while table.channels.count <= Int(descriptor) { table.channels.append(nil) }
      table.channels[Int(descriptor)] = channel
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

  /// Watches again, for other events perhaps. With the channel's lock held.
  func rearm(_ descriptor: Int32, generation: UInt32, _ events: Epoll.Events) {
    do throws(Errno) {
      try epoll.change(descriptor, events, data: SocketWatch.data(descriptor, generation))
    } catch {
      preconditionFailure("a socket that is watched is watched until it is closed: \(error)")
    }
  }

  /// Ends the watch, before the descriptor is closed. With the channel's lock held.
  func remove(_ descriptor: Int32) {
    try? epoll.remove(descriptor)
    forget(descriptor)
  }

  private func forget(_ descriptor: Int32) {
    // The caller holds the channel: it does not end here.
    let channel = table.withLock { table in exchange(&table.channels[Int(descriptor)], with: nil) }
    withExtendedLifetime(channel) {}
  }

  private static func data(_ descriptor: Int32, _ generation: UInt32) -> UInt64 {
    UInt64(generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
  }

  // MARK: On the loop

  private func tellWhoIsReady() {
    for _ in 0..<SocketWatch.roundsMax {
      let count = try? epoll.wait { data, events in
        let descriptor = Int(data & 0xffff_ffff)
        let channel = table.withLock { table in
          descriptor < table.channels.count ? table.channels[descriptor] : nil
        }
        channel?.happened(events, generation: UInt32(data >> 32))
      }
      guard count == Epoll.eventsPerCallMax else { return }
    }
  }
}
