// The server: listeners and connections, and what all connections share. Sockets, threads and time come together here; what a
// request does is decided elsewhere.

import BlockBackend
import EventLoops
import Locking
import Logging
import NBDProtocol
import NBDServerCore
import Synchronization
import Syscalls
import SystemPackage

package final class Server: Sendable {
  package let limits: Limits
  package let loop = EventLoop(label: "holdfast.loop")
  let exports = Locked(ExportRegister())
  let pool = PiecePool()
  let workers: WorkerPool<Work, Worker>
  /// Who attends to the sockets deals with these itself, when it has looked at all events.
  let newcomers = Locked<[Connection]>([])
  private let attended = Atomic<Bool>(false)
  let statistics = ServerStatistics()
  let slowOperations: SlowOperations
  let logger: Logger
  let guards: GuardSwitches
  let cpus: Int
  private let spins: Bool
  let coldReads: ColdReadMode
  /// The kernel gives no io_uring.
  let ringIsRefused = Atomic<Bool>(false)
  let budget: Locked<ByteBudget>
  let roster = Locked(Roster())
  private let shuttingDown = Atomic<Bool>(false)

  /// Lock order: none of these is held while another is taken.
  struct Roster {
    var connections: [ConnectionID: Connection] = [:]
    var nextID: UInt64 = 1
    var listeners: [OpenListener] = []
    var tick: LoopTimer?
    /// The limit on connections was met, and the log told.
    var isFull = false
    var idleness = Idleness()
  }

  struct OpenListener {
    let listener: Listener
    let file: UnixSocketFile?
  }

  /// Workers that may be awake at once: enough to keep every CPU busy while some wait inside the kernel.
  package static func workersAwakeMax(cpus: Int) -> Int { max(16, 4 * cpus) }

  /// Workers in all, most of them asleep on a connection that was hot a moment ago.
  package static let workersMax = 128

  /// - Parameters:
  ///   - exports: the first ones. No two answer to the same name, and each goes with its image.
  ///   - spins: a worker looks for the next bytes for a moment before it sleeps, while that pays.
  ///   - guards: of connections and budget; those of an image are the image's.
  package init(
    exports: [Export], limits: Limits = Limits(), cpus: Int, spins: Bool = true, coldReads: ColdReadMode = .ring(),
    logger: Logger, guards: GuardSwitches = .allStand
  ) {
    self.limits = limits
    self.logger = logger
    self.guards = guards
    self.cpus = cpus
    self.spins = spins
    self.coldReads = coldReads
    slowOperations = SlowOperations(thresholdNanoseconds: limits.slowOperationNanoseconds)
    budget = Locked(
      ByteBudget(limits: limits, payloadBytesMax: Int(ExportTable.payloadBytesMax), guards: guards))
    workers = WorkerPool(
      name: "worker",
      limits: WorkerLimits(
        awakeMax: Server.workersAwakeMax(cpus: cpus), threadsMax: Server.workersMax, idleSeconds: Lanes.idleSeconds),
      makeContext: { [statistics] in Worker(latencies: statistics.shardOfNextWorker()) },
      serve: { worker, work in work.run(&worker) })
    loop.lendSockets { [weak self] in
      // When many workers are busy, in the kernel perhaps, the loop must not wait for one of them.
      guard let self, workers.awakeCount < Server.workersAwakeMax(cpus: cpus) / 2 else { return false }
      workers.submit(.attend(self))
      return true
    }
    for export in exports {
      do throws(ExportChangeError) { try add(export) } catch { preconditionFailure("\(error)") }
    }
  }

  /// Fewer workers run than there are CPUs, so that one may look for bytes without keeping others from running.
  var hasIdleCPU: Bool { spins && workers.awakeCount < cpus }

  package var isShuttingDown: Bool { shuttingDown.load(ordering: .relaxed) }

  func nowMilliseconds() -> Int64 { MonotonicClock.nanoseconds / 1_000_000 }

  // MARK: Listeners

  /// Listens on a TCP address; port 0 takes a free one. Any thread.
  /// - Returns: the address with its real port.
  package func listen(tcp address: SocketAddress) throws(Errno) -> SocketAddress {
    let socket = try Sockets.listenTCP(address, prepare: prepareTCP)
    let bound = try Sockets.localAddress(socket.number) ?? address
    try add(socket, file: nil)
    return bound
  }

  /// Accepts from a socket that listens already; the file of a Unix socket belongs to whoever made it. Any thread.
  package func listen(inherited socket: consuming OwnedDescriptor) throws(Errno) {
    // Clients may have connected before this process began: what they inherited is not ours.
    try add(socket, file: nil, isPrepared: false)
  }

  /// Listens on a Unix socket that is made with `mode`, and removed at the end. Any thread.
  package func listen(unixPath path: String, mode: UInt32) throws(UnixSocketError) {
    let listening = try UnixSocketFile.listen(path: path, mode: mode)
    let file = listening.file
    do throws(Errno) {
      try add(listening.takeSocket(), file: file)
    } catch {
      throw UnixSocketError(path: path, reason: .failed(call: "fcntl", error))
    }
  }

  private func add(
    _ socket: consuming OwnedDescriptor, file: UnixSocketFile?, isPrepared: Bool = true
  ) throws(Errno) {
    let listener = try Listener(
      socket, loop: loop,
      onAccept: { [self] socket, peer in accept(socket, peer, isPrepared: isPrepared) },
      onEvent: { [self] event in note(event) })
    let isTooLate = roster.withLock { roster in
      if !isShuttingDown { roster.listeners.append(OpenListener(listener: listener, file: file)) }
      return isShuttingDown
    }
    if isTooLate {
      listener.close()
      file?.remove()
    }
  }

  private func note(_ event: ListenerEvent) {
    switch event {
    case .paused(let errno):
      logger.error("no connection can be accepted: \(errno); trying again five times a second")
    case .resumed: logger.notice("connections are accepted again")
    }
  }

  // MARK: Connections

  /// A worker waits for sockets in the loop's place. Only asked where owners of sockets are told.
  var isAttended: Bool { attended.load(ordering: .relaxed) }

  func attend(_ worker: inout Worker) {
    attended.store(true, ordering: .relaxed)
    loop.attendSockets(
      quietMilliseconds: Limits.leaseQuietMilliseconds,
      wait: { look in
        workers.willSleep()
        defer { workers.didWake() }
        return look()
      },
      told: {
        for connection in newcomers.withLock({ exchange(&$0, with: []) }) {
          connection.serve(&worker, untilRequest: true)
        }
      })
    attended.store(false, ordering: .relaxed)
    loop.takeSocketsBack()
  }

  /// On the loop, or on the worker that attends.
  func accept(_ socket: consuming OwnedDescriptor, _ peer: PeerAddress, isPrepared: Bool) {
    do throws(Errno) {
      if peer.isUnix { try prepareUnix(socket.number) } else if !isPrepared { try prepareTCP(socket.number) }
    } catch {
      logger.warning("cannot set up the socket of \(peer): \(error)")
    }
    register(socket, peer)?.start()
  }

  private func register(_ socket: consuming OwnedDescriptor, _ peer: PeerAddress) -> Connection? {
    let (id, isFirstRefused) = roster.withLock { roster -> (ConnectionID?, Bool) in
      guard roster.connections.count < limits.connectionsMax else {
        defer { roster.isFull = true }
        return (nil, !roster.isFull)
      }
      roster.isFull = false
      defer { roster.nextID += 1 }
      return (ConnectionID(rawValue: roster.nextID), false)
    }
    guard let id else {
      statistics.note(.connectionLimit)
      if isFirstRefused { logger.warning("refusing connections: \(limits.connectionsMax) are open, the most allowed") }
      return nil
    }
    let connection = Connection(id: id, server: self, socket: socket, peer: peer)
    let needsTick = roster.withLock { roster in
      roster.connections[id] = connection
      return roster.tick == nil
    }
    if needsTick { startTicking() }
    connection.log(.debug, "accepted")
    return connection
  }

  /// The connection is closed.
  func forget(_ connection: Connection) {
    budget.withLock { $0.forget(connection.id) }
    let onIdle = roster.withLock { roster in
      roster.connections.removeValue(forKey: connection.id)
      return roster.idleness.left(connection, isLast: roster.connections.isEmpty)
    }
    if let onIdle { loop.run(onIdle) }
  }

  package var connectionCount: Int { roster.withLock { $0.connections.count } }

  var connections: [Connection] { roster.withLock { Array($0.connections.values) } }

  // MARK: Once a second, while there are connections

  private func startTicking() {
    let timer = loop.every(milliseconds: 1000) { [self] in tick() }
    roster.withLock { $0.tick = timer }
  }

  private func tick() {
    let now = nowMilliseconds()
    for connection in connections where connection.isNegotiating {
      if now - connection.acceptedMilliseconds >= Int64(limits.handshakeSeconds) * 1000 {
        connection.note(.timeout)
        connection.die("option haggling took longer than \(limits.handshakeSeconds) s")
      }
    }
    closeStalled(now)
    slowOperations.look(at: connections, logger)
    pool.trim(keeping: pool.freeCount / 2)
    let awaitsNothing = pool.freeCount == 0 && !slowOperations.awaitsAnEnd
    let idle = roster.withLock { roster -> LoopTimer? in
      guard roster.connections.isEmpty, awaitsNothing else { return nil }
      return exchange(&roster.tick, with: nil)
    }
    idle?.cancel()
  }

  /// Memory that others wait for, held by clients that neither read nor send.
  private func closeStalled(_ now: Int64) {
    let holders = budget.withLock { $0.isContended ? $0.stallCandidates : [] }
    for id in holders {
      guard let connection = roster.withLock({ $0.connections[id] }),
        connection.stalledMilliseconds(now: now) >= Int64(limits.stallSeconds) * 1000,
        connection.holdsMemoryForItsClient
      else { continue }
      connection.die(
        "it made no progress for \(limits.stallSeconds) s while others wait for the memory that it holds")
    }
  }

  // MARK: Memory

  func charge(_ bytes: Int, to connection: Connection) -> ByteBudget.Charge {
    budget.withLock { $0.charge(bytes, to: connection.id) }
  }

  func chargeExisting(_ bytes: Int, to connection: Connection) {
    budget.withLock { $0.chargeExisting(bytes, to: connection.id) }
  }

  func release(_ bytes: Int, of connection: Connection) {
    wake(budget.withLock { $0.release(bytes, of: connection.id) })
  }

  /// Bytes that were received wait for a worker; `unpark` when one takes them.
  func park(_ bytes: Int, of connection: Connection) {
    guard bytes > 0 else { return }
    budget.withLock { $0.park(bytes, of: connection.id) }
  }

  /// - Parameter bytes: how many; 0: nothing was parked.
  func unpark(_ bytes: Int, of connection: Connection) {
    guard bytes > 0 else { return }
    wake(budget.withLock { $0.unpark(connection.id) })
  }

  /// The handshake chose an export: what the connection holds from now on counts for it and its image.
  func attach(_ connection: Connection, to export: ServedExport) {
    budget.withLock { $0.attach(connection.id, to: export.image.key, of: export.id) }
  }

  /// How much memory the clients of an export may hold together; nil: the export has no limit, or is gone.
  func limitBytes(_ id: ExportID, _ export: Export?) {
    wake(budget.withLock { $0.limit(id, to: export?.limits.bytes) })
  }

  func payloadBegan(of connection: Connection) { budget.withLock { $0.payloadBegins(connection.id) } }

  func payloadEnded(of connection: Connection) {
    wake(budget.withLock { $0.payloadEnds(connection.id) })
  }

  private func wake(_ ids: [ConnectionID]) {
    guard !ids.isEmpty else { return }
    let woken = roster.withLock { roster in ids.compactMap { roster.connections[$0] } }
    for connection in woken { connection.wake() }
  }

  package var chargedBytes: Int { budget.withLock { $0.total } }

  // MARK: Shutdown

  /// How the server ended.
  package struct End: Sendable {
    /// Images whose last sync failed, by the name of an export.
    package var failedSyncs: [(export: String, error: Errno)] = []
  }

  /// Once: accepts no more, refuses new requests, finishes those in flight, syncs every image, then calls `onEnd` on a thread
  /// of its own. Clients delay that by at most `limits.shutdownSeconds`; the disk takes what it takes, and the log says
  /// each second what is waited for.
  package func shutDown(onEnd: @escaping @Sendable (End) -> Void) {
    guard !shuttingDown.exchange(true, ordering: .relaxed) else { return }
    let listeners = roster.withLock { exchange(&$0.listeners, with: []) }
    for each in listeners {
      each.listener.close()
      each.file?.remove()
    }
    let begun = nowMilliseconds()
    let handle = StoppableTimer()
    let progress = loop.every(milliseconds: 50) { [self] in
      guard !handle.hasStopped else { return }
      let age = nowMilliseconds() - begun
      guard closeAll(age) else { return }
      handle.stop()
      finish(onEnd)
    }
    handle.start(progress)
  }

  /// - Returns: true when none is left.
  private func closeAll(_ age: Int64) -> Bool {
    let all = connections
    if all.isEmpty { return true }
    let isOver = age >= Int64(limits.shutdownSeconds) * 1000
    for connection in all {
      if isOver { connection.die("the server is shutting down") }
      // A moment for clients in mid-sentence to be told that the server goes. Who waited for memory needs none for that.
      if age >= Limits.shutdownLingerMilliseconds { connection.closeIfQuiet() } else { connection.wake() }
    }
    if isOver, age % 1000 < 50 { logger.notice("waiting for the requests in flight of \(all.count) connections") }
    return false
  }

  private func finish(_ onEnd: @escaping @Sendable (End) -> Void) {
    roster.withLock { exchange(&$0.tick, with: nil) }?.cancel()
    let report = FinalSyncReport(logger: logger, loop: loop)
    let sync: @Sendable () -> Void = { [self] in
      let end = syncAll(report)
      report.stop()
      onEnd(end)
    }
    do throws(Errno) {
      try PosixThread.spawn(name: "final-sync", sync)
    } catch {
      sync()
    }
  }

  private func syncAll(_ report: FinalSyncReport) -> End {
    var end = End()
    for (image, export) in exports.withLock({ $0.images }) {
      report.begin(export)
      if let error = lastSync(image, export) { end.failedSyncs.append((export, error)) }
    }
    return end
  }
}
