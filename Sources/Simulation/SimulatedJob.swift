// A request past admission, and the system call that it is in.

import BlockBackend
import NBDProtocol
import NBDServerCore
import RangeLocks
import SystemPackage

/// A system call that has begun.
struct SystemCall {
  var call: FileCall
  /// How much of it has taken effect: a call is not atomic here, unless locks make it so.
  var done: UInt64 = 0
  /// What a read has found so far.
  var data: [UInt8] = []
  /// What the fault rules say to it, once they were asked.
  var ruling: FileCallAnswer?
}

/// How a system call goes on.
enum CallEvent: Equatable {
  /// So many more bytes take effect; it goes on.
  case progresses(UInt64)
  case completes
  /// It ends after so many bytes.
  case endsShort(UInt64)
  /// It fails, after so many bytes.
  case fails(Errno, after: UInt64)
  /// It ends and says that it did so many bytes; it did none.
  case pretends(UInt64)
}

/// A request past admission.
final class SimulatedJob {
  enum Phase {
    case waiting
    /// It has its lock and waits for a thread.
    case runnable
    case calling(SystemCall)
    case paused
    case syncing
    case ended
  }

  enum Outcome: Equatable {
    case succeeded
    /// `execution` has the reply, the inline data or the extents.
    case answered
    /// Without the guard of I4: the data is looked at when it is sent.
    case lent
    /// An inline READ did not find all of it in memory: it goes on as another request with the same lock.
    case notCached
    case failed(BackendError, inSync: Bool)
    case dropped
  }

  let number: Int
  let request: Request
  /// Whose it is, for the owner of the image.
  let connection: Int
  /// On the worker of its connection, which waits for it.
  let isInline: Bool
  var token: RangeLockTable.Token?
  var phase = Phase.waiting
  var execution: Execution?
  /// Its present call hangs until this event of the world.
  var hangsUntil = 0
  /// For the owner: number on the connection, and what the budget was charged.
  var replyID: UInt64 = 0
  var chargedBytes = 0
  var payload: [UInt8]
  var encoder: ReplyEncoder
  var plan: ReadPlan

  init(
    number: Int, _ request: Request, connection: Int, isInline: Bool, payload: [UInt8], encoder: ReplyEncoder,
    plan: ReadPlan
  ) {
    self.number = number
    self.request = request
    self.connection = connection
    self.isInline = isInline
    self.payload = payload
    self.encoder = encoder
    self.plan = plan
  }

  var isEffect: Bool { request.command == .trim || request.command == .writeZeroes }
}
