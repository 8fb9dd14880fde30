// A thread that keeps the requests of a few connections in flight: one poll loop, as many requests on each connection as
// there are slots.

import CNbd
import Glibc
import Oracle
import Torture

struct LoadPlan: Sendable {
  var uri: String
  var shape: Shape
  var seed: UInt64
  var tag: UInt64
  var connections: Int
  /// Requests in flight on each connection.
  var depth: Int
  /// Of the whole run, CLOCK_MONOTONIC.
  var start: Int64
  /// How long a server may say nothing.
  var silenceSecondsMax = 60
}

final class LoadThread {
  private let plan: LoadPlan
  private let board: Board
  private let events: EventCounter
  private var members: [Member] = []

  private final class Member {
    let index: Int
    var handle: NBDHandle
    var planner: Planner
    let slots: [Slot]
    var left = 0
    var isDead = false

    init(_ index: Int, _ handle: NBDHandle, _ planner: Planner, _ slots: [Slot]) {
      (self.index, self.handle, self.planner, self.slots) = (index, handle, planner, slots)
    }

    var isIdle: Bool { !slots.contains { $0.isBusy } }
  }

  /// - Parameter only: the handle of the only connection there is; otherwise each gets a new one.
  init(
    _ plan: LoadPlan, connections: [Int], board: Board, events: EventCounter, only: NBDHandle? = nil
  ) throws {
    (self.plan, self.board, self.events) = (plan, board, events)
    let bytes = max(plan.shape.longBytesMax, plan.shape.lengthBytesMax)
    for index in connections {
      let planner = Planner(
        shape: plan.shape, seed: plan.seed, connection: index, of: plan.connections, tag: plan.tag)
      let slots = (0..<plan.depth).map { _ in Slot(bytes: bytes, events: events, start: plan.start) }
      members.append(Member(index, try only ?? NBDHandle(plan.uri), planner, slots))
    }
  }

  /// The body of the thread.
  static func run(_ plan: LoadPlan, connections: [Int], board: Board, events: EventCounter) {
    do {
      let thread = try LoadThread(plan, connections: connections, board: board, events: events)
      var last = 0
      while let order = board.nextOrder(after: last, wait: { usleep(100) }) {
        last = order.number
        if order.reconnects { try thread.reconnect(nil) }
        board.finish(try thread.execute(order))
      }
    } catch let failure as TortureFailure {
      board.fail(failure)
    } catch {
      board.fail(TortureFailure("\(error)"))
    }
  }

  /// - Parameter only: as in `init`.
  func reconnect(_ only: NBDHandle?) throws {
    for member in members {
      member.handle = try only ?? NBDHandle(plan.uri)
      member.isDead = false
    }
  }

  /// - Parameter pulse: called often.
  func execute(_ order: Order, pulse: () -> Void = {}) throws -> [Request] {
    var records: [Request] = []
    records.reserveCapacity(members.count * order.requestsPerConnection)
    for member in members { member.left = order.requestsPerConnection }
    // In seconds that were waited through, not on the clock: all of this may be stopped for a while.
    var silentSeconds = 0
    while true {
      pulse()
      for member in members where !member.isDead { try fill(member, order) }
      let recordsBefore = records.count
      for member in members { reap(member, &records) }
      if members.allSatisfy({ $0.isIdle && ($0.left == 0 || $0.isDead) }) { return records }
      if records.count > recordsBefore {
        board.answered.add(records.count - recordsBefore, ordering: .relaxed)
        silentSeconds = 0
        continue
      }
      if silentSeconds >= plan.silenceSecondsMax {
        throw TortureFailure("the server has not answered anything for \(plan.silenceSecondsMax) s")
      }
      if board.isOver { throw TortureFailure("another connection failed") }
      if try !wait(order) { silentSeconds += 1 }
    }
  }

  private func fill(_ member: Member, _ order: Order) throws {
    for slot in member.slots where !slot.isBusy && member.left > 0 && !member.isDead {
      member.left -= 1
      if !slot.send(member.planner.next(), over: member.handle.raw) || isGone(member) {
        try died(member, order)
      }
    }
  }

  private func reap(_ member: Member, _ records: inout [Request]) {
    for slot in member.slots where slot.isBusy && (slot.isAnswered || member.isDead) { records.append(slot.take()) }
  }

  /// - Returns: false when nothing happened for a second.
  private func wait(_ order: Order) throws -> Bool {
    let waiting = members.filter { !$0.isDead && !$0.isIdle }
    var polled = waiting.map { member in
      let direction = nbd_aio_get_direction(member.handle.raw)
      var events: Int16 = 0
      if direction & UInt32(LIBNBD_AIO_DIRECTION_READ) != 0 { events |= Int16(POLLIN) }
      if direction & UInt32(LIBNBD_AIO_DIRECTION_WRITE) != 0 { events |= Int16(POLLOUT) }
      return pollfd(fd: nbd_aio_get_fd(member.handle.raw), events: events, revents: 0)
    }
    guard poll(&polled, nfds_t(polled.count), 1000) != 0 else { return false }
    for (member, descriptor) in zip(waiting, polled) where descriptor.revents != 0 {
      let direction = nbd_aio_get_direction(member.handle.raw)
      let canWrite = Int32(descriptor.revents) & (POLLOUT | POLLERR | POLLHUP) != 0
      let isRead = direction & UInt32(LIBNBD_AIO_DIRECTION_READ) != 0
      var result: Int32 = 0
      if isRead, Int32(descriptor.revents) & (POLLIN | POLLERR | POLLHUP) != 0 {
        result = nbd_aio_notify_read(member.handle.raw)
      } else if canWrite, direction & UInt32(LIBNBD_AIO_DIRECTION_WRITE) != 0 {
        result = nbd_aio_notify_write(member.handle.raw)
      }
      if result == -1 || isGone(member) { try died(member, order) }
    }
    return true
  }

  private func isGone(_ member: Member) -> Bool {
    nbd_aio_is_dead(member.handle.raw) == 1 || nbd_aio_is_closed(member.handle.raw) == 1
  }

  private func died(_ member: Member, _ order: Order) throws {
    if !isGone(member) {
      throw NBDHandle.failure("connection \(member.index)")
    }
    guard order.expectsDeath else { throw NBDHandle.failure("connection \(member.index) died") }
    member.isDead = true
    // Closing it ends what is in flight, with an error that is not the server's.
    for slot in member.slots where slot.isBusy && slot.isAnswered && slot.request.errno != 0 {
      slot.request.completed = nil
    }
  }
}
