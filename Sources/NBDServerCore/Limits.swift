// Every queue, buffer, count and wait has its limit here, with the reason for its size.

import NBDProtocol

/// What one server allows. Sizes are bytes unless the name says otherwise.
package struct Limits: Sendable, Equatable {
  /// Connections at once. An idle one costs about a descriptor and 1 KiB, so this bounds descriptors.
  package var connectionsMax = 1024

  /// From accept to the end of option haggling. A client needs milliseconds; a silent one must not hold its place.
  package var handshakeSeconds = 10

  /// Option haggling: options per handshake (`nbdinfo --list` sends two for each export), data of one option that is
  /// looked at (fifteen strings of 4096 bytes, the most that "Conventions" allows), an option that is not even skipped, and
  /// queries in one option.
  package var handshake = HandshakeLimits(
    optionsMax: 1024, optionBytesMax: 64 * 1024, optionBytesFatal: 32 * 1024 * 1024, queriesMax: 256)

  /// Requests of one connection that have left the worker (waiting for a lock, a disk or a sync). QEMU keeps 16 in flight,
  /// libnbd what its user asks for; above this the socket is not read, which any client notices only as back-pressure.
  package var requestsInFlightMax = 1024

  /// Memory that one connection may hold: two maximum payloads with their headers.
  package var connectionBytesMax = 64 * 1024 * 1024 + 4096

  /// Memory that the requests to one image may hold, so that one that hangs leaves something to the others: six maximum
  /// payloads.
  package var imageBytesMax = 192 * 1024 * 1024

  /// What a connection that holds nothing is always granted: a request that fits a worker's buffer, with its header. Such
  /// requests never wait for others; `connectionsMax` bounds them.
  package var smallChargeBytesMax = 256 * 1024 + 512

  /// What each request off the fast path, and each reply in a queue, costs beside its bytes.
  package static let overheadBytes = 512

  /// Memory that all connections together may hold.
  package var totalBytesMax = 256 * 1024 * 1024

  /// Replies that the socket did not take. Above `sendQueuePauseBytes` the connection is no longer read, below
  /// `sendQueueResumeBytes` it is read again: a client that does not read its replies stops itself, not us.
  package var sendQueuePauseBytes = 1024 * 1024
  package var sendQueueResumeBytes = 256 * 1024

  /// What the data of a READ that is sent from its file counts as in that queue. It needs no memory of ours, but a client has to
  /// read its replies all the same: at most 64 of them wait.
  package static let queuedTailBytes = 16 * 1024

  /// A connection that moves less than `stallBytes` in this time and finishes nothing, while it holds memory that others wait
  /// for, is closed. A byte now and then is not progress.
  package var stallSeconds = 30
  package var stallBytes = 1024 * 1024

  /// Requests that are in flight for longer are told of in the log, milliseconds; nil: none. A disk that takes seconds is worth
  /// a look, one that is busy is not.
  package var slowOperationMilliseconds: Int? = 5000

  /// The same in nanoseconds; `Int64.max`: none.
  package var slowOperationNanoseconds: Int64 { slowOperationMilliseconds.map { Int64($0) * 1_000_000 } ?? Int64.max }

  /// From the first SIGTERM until clients are cut off, so that stopping takes less than 5 seconds beside the disk. Requests that were admitted still finish.
  package var shutdownSeconds = 4

  /// Requests up to this length are received, executed and answered in the buffers of a worker.
  package static let inlineBytesMax = 256 * 1024

  /// READs from this length are sent from the file where that is allowed; below it two more system calls cost as much as the
  /// copy.
  package static let sendfileBytesMin = 64 * 1024

  /// WRITEs up to this length are executed on the worker: about a millisecond.
  package static let inlineLargeWriteBytesMax = 4 * 1024 * 1024

  /// Bytes taken from a socket at once, less than the buffer of a worker so that they stay in the processor's cache until they
  /// are written: a whole number of WRITEs of 4, 64, 128 and 256 KiB with their headers, but for a rest that is short.
  package static let receiveBytesMax = 256 * 1024 + 64 * 28

  /// A worker's receive buffer and its reply buffer. 1 MiB gave 1.2 to 1.8 times 256 KiB for large TCP reads.
  package static let workerBufferBytes = 1024 * 1024

  /// Replies of a batch are sent when they reach this, or at the end of the batch: the client works on the first ones while
  /// the others are made. A quarter more 4k reads at depth 32 than with 256 KiB.
  package static let replyFlushBytes = 64 * 1024

  /// The same while the client runs on a CPU of its own (`SpinPolicy`), and of replies and the payloads of WRITEs together: at
  /// depth 16 it is then as busy as the worker. Where both share a CPU, twice as many wake-ups cost 10 to 20 %.
  package static let replyFlushBytesBesideClient = 32 * 1024

  /// Replies to TRIM and WRITE_ZEROES wait no longer than this for others of their batch.
  package static let replyDelayNanosecondsMax: Int64 = 200_000

  /// A sync that is quicker than this may be made by the worker of a connection, whose other requests wait meanwhile.
  package static let quickSyncNanosecondsMax: Int64 = 1_000_000

  /// TRIM and WRITE_ZEROES longer than this leave the worker: `fallocate` takes the inode's lock for milliseconds.
  package static let inlineEffectBytesMax = 64 * 1024

  /// READs from this length are probed for holes; smaller ones are not worth two lseeks.
  package static let holeProbeBytesMin = 64 * 1024

  /// Extents in one BLOCK_STATUS reply: as many as `smallChargeBytesMax` has room for. The spec allows 2^20.
  package static let extentsPerReplyMax = 32_765

  /// Batches that a worker serves on one connection while others wait.
  package static let batchesPerTurnMax = 64

  /// How long a worker waits on a quiet connection before it gives the lease back, milliseconds.
  package static let leaseQuietMilliseconds = 20

  /// Asked for at Unix sockets; the kernel may give less. 4k reads at depth 64 gained 1.1 to 1.4 times from it.
  package static let socketBufferBytes = 1024 * 1024

  /// Unacknowledged data ends a TCP connection after this: what Linux does by default for data in flight, and long enough
  /// for a guest that is paused.
  package static let userTimeoutSeconds = 900

  /// How long a snapshot waits for requests in flight, while the ones behind it wait for it: much longer than a request takes,
  /// much shorter than a guest waits for its disk (30 s in Linux).
  package static let wholeLockMilliseconds = 5000

  /// How long a shutdown leaves quiet connections open, so that a client in mid-sentence is told ESHUTDOWN.
  package static let shutdownLingerMilliseconds = 200

  package init() {}
}
