// Exports that come, change and go while the server runs. Clients of other exports notice nothing of it; those of the export
// itself keep what they were told (I9).

import BlockBackend
import Locking
import NBDProtocol
import NBDServerCore
import Syscalls
import SystemPackage

extension Server {
  /// Serves one more export, at once. Any thread.
  @discardableResult
  package func add(_ export: Export) throws(ExportChangeError) -> ExportID {
    let shape = try checkedShape(export)
    guard !isShuttingDown else { throw .shuttingDown }
    return try withLimit(of: export) { (id) throws(ExportChangeError) in
      _ = try exports.withLock { (register) throws(ExportChangeError) in try register.add(export, shape, id: id) }
    }
  }

  /// In one step: from now on clients get `export` under this name; those who have the old one keep it, and it goes with the
  /// last of them. Any thread.
  /// - Parameter whenGone: of the old one; on a thread of its own.
  @discardableResult
  package func replace(
    _ name: String, with export: Export, whenGone: @escaping @Sendable (Departure) -> Void = { _ in }
  ) throws(ExportChangeError) -> ExportID {
    let shape = try checkedShape(export)
    guard !isShuttingDown else { throw .shuttingDown }
    return try withLimit(of: export) { (id) throws(ExportChangeError) in
      let old = try exports.withLock { (register) throws(ExportChangeError) in
        guard let old = register.named(name) else { throw .noSuchExport(name) }
        let before = register
        register.release(old.id)
        do throws(ExportChangeError) {
          let new = try register.add(export, shape, id: id)
          // What an operator asked of this name goes on.
          if old.isPaused { new.pause() }
          if !old.isServed {
            _ = new.leave(.hide, whenGone: { _ in })
            register.hide(new.id)
          }
        } catch {
          register = before
          throw error
        }
        return old
      }
      if case .leaves(_, isGone: true) = old.leave(.drain, whenGone: whenGone) { bury(old) }
    }
  }

  /// The memory that its clients may hold is bounded before `publish` shows the export under this id to the first of them.
  private func withLimit(
    of export: Export, _ publish: (ExportID) throws(ExportChangeError) -> Void
  ) throws(ExportChangeError) -> ExportID {
    let id = exports.withLock { $0.makeID() }
    limitBytes(id, export)
    do throws(ExportChangeError) { try publish(id) } catch {
      limitBytes(id, nil)
      throw error
    }
    return id
  }

  /// Changes what clients are not told: aliases, description, limits, access, TRIM, durability. Connections that are open keep
  /// TRIM and durability as they were when they came, and are not closed by narrower limits. Any thread.
  /// - Precondition: image, window, block sizes and read-only are as they were.
  package func change(_ name: String, to export: Export) throws(ExportChangeError) {
    let shape = try checkedShape(export)
    let served = try exports.withLock { (register) throws(ExportChangeError) in
      guard let served = register.named(name) else { throw .noSuchExport(name) }
      precondition(served.image === export.image, "what clients were told does not change")
      try register.change(served, to: export, shape)
      return served
    }
    limitBytes(served.id, export)
  }

  /// Takes an export away; `RemovalMode` says how. Any thread.
  /// - Parameter whenGone: not with `.hide`; on a thread of its own, after the last sync of its image, if it was the last to show it.
  /// - Returns: the connections that have it now.
  @discardableResult
  package func remove(
    _ name: String, _ mode: RemovalMode, whenGone: @escaping @Sendable (Departure) -> Void = { _ in }
  ) throws(ExportChangeError) -> Int {
    let (found, leaving) = exports.withLock { register -> (ServedExport?, ServedExport.Leaving) in
      guard let served = register.find(name) else { return (nil, .tooLate) }
      let leaving = served.leave(mode, whenGone: whenGone)
      if case .leaves = leaving { mode == .hide ? register.hide(served.id) : register.release(served.id) }
      return (served, leaving)
    }
    guard let served = found else { throw .noSuchExport(name) }
    switch leaving {
    case .tooLate: throw .noSuchExport(name)
    case .refused(let connections): throw .inUse(name, connections: connections)
    case .leaves(let connections, let isGone):
      if isGone { bury(served) } else if mode == .now { closeUsers(of: served) }
      return connections
    }
  }

  /// Takes `.hide` back. Nothing happens to an export that is not hidden. Any thread.
  package func show(_ name: String) throws(ExportChangeError) {
    try exports.withLock { (register) throws(ExportChangeError) in
      guard let served = register.named(name) else { throw .noSuchExport(name) }
      if served.show() { register.show(served) }
    }
  }

  // MARK: Pausing

  /// From their next batch on, the connections of this export are not read: requests wait in the sockets, and nothing is lost.
  /// What was admitted before is finished and answered; `isQuiet` says when. Clients may still come and haggle. Any thread.
  /// What had this name before and still has clients is paused as well.
  package func pause(_ name: String) throws(ExportChangeError) { for each in try all(named: name) { each.pause() } }

  /// Goes on with what waited, in order. Any thread.
  package func resume(_ name: String) throws(ExportChangeError) { for each in try all(named: name) { each.resume() } }

  /// While paused: everything that was admitted before has ended, so that nothing of this export changes its image. Any thread.
  package func isQuiet(_ name: String) throws(ExportChangeError) -> Bool {
    try all(named: name).allSatisfy(\.isQuiet)
  }

  /// The export that answers to `name`, and those that had it and are leaving.
  private func all(named name: String) throws(ExportChangeError) -> [ServedExport] {
    let found = exports.withLock { register -> [ServedExport] in
      guard let first = register.find(name) else { return [] }
      let primary = first.description.export.name
      return register.all.filter { $0.description.export.name == primary }
    }
    if found.isEmpty { throw .noSuchExport(name) }
    return found
  }

  // MARK: Growing

  /// Makes the image larger. Clients that come from now on are told so by every export that shows it to its end; those that are
  /// connected keep the size they were told. Blocks for the disk: not on the loop, not on a worker.
  /// - Returns: bytes of the image.
  package func grow(_ name: String, to sizeBytes: UInt64) throws(ExportChangeError) -> (old: UInt64, new: UInt64) {
    let image = try find(name).image
    let old = image.backend.geometry.sizeBytes
    guard sizeBytes >= old else {
      throw .cannotGrow(name, why: "its image has \(old) bytes, and images only grow")
    }
    guard sizeBytes > old else { return (old, old) }
    do throws(BackendError) { try image.grow(to: sizeBytes) } catch {
      let why = error.errno == .notSupported ? "only regular files that are open for writing grow" : "\(error.errno)"
      throw .cannotGrow(name, why: why)
    }
    exports.withLock { register in
      for served in register.all where served.image === image {
        let export = served.description.export
        // It fitted, and fits into more.
        if let shape = try? export.shape() { register.reshape(served, export, shape) }
      }
    }
    return (old, image.backend.geometry.sizeBytes)
  }

  // MARK: Looking

  /// Behind a name or alias; hidden and leaving exports are found, too. Any thread.
  package func image(named name: String) -> Image? { exports.withLock { $0.find(name) }?.image }

  /// Exports that new clients find. Any thread.
  package var exportCount: Int { exports.withLock { $0.table.count } }

  package var exportNames: [String] { exports.withLock { $0.table.list.map(\.name) } }

  /// Everything that is served, also what is leaving, in the order in which it came. Any thread.
  package func exportSnapshot() -> [ExportSnapshot] { exports.withLock { $0.all }.map(\.snapshot) }

  func served(_ id: ExportID) -> ServedExport? { exports.withLock { $0[id] } }

  private func find(_ name: String) throws(ExportChangeError) -> ServedExport {
    guard let served = exports.withLock({ $0.find(name) }) else { throw .noSuchExport(name) }
    return served
  }

  private func checkedShape(_ export: Export) throws(ExportChangeError) -> ExportShape {
    do throws(ExportShape.Mismatch) { return try export.shape() } catch {
      throw .doesNotFit(export.name, why: error.clause)
    }
  }
}

// MARK: - The end of an export

extension Server {
  /// Its last client is gone, or it had none. Any thread.
  func bury(_ served: ServedExport) {
    let ticket = exports.withLock { $0.bury(served) }
    limitBytes(served.id, nil)
    let name = served.snapshot.export.name
    let end: @Sendable () -> Void = { [self] in
      var departure = Departure(name: name, id: served.id, wasLastOfImage: ticket != nil)
      if let ticket {
        departure.syncError = lastSync(served.image, name)
        exports.withLock { $0.synced(ticket) }
      }
      logger.info("export \"\(name)\" is gone")
      for tell in served.takeWhenGone() { tell(departure) }
    }
    do throws(Errno) { try PosixThread.spawn(name: "last-sync", end) } catch { end() }
  }

  /// On the caller's thread.
  func lastSync(_ image: Image, _ name: String) -> Errno? {
    do throws(BackendError) {
      try image.finalSync()
      return nil
    } catch {
      logger.critical(
        "the last sync of export \"\(name)\" failed: \(error.errno); acknowledged writes may be lost")
      return error.errno
    }
  }

  /// The lease holders end by themselves, with their next batch; the others are closed when nothing of them is in flight. Who does
  /// not read its replies is cut off in the end; what it has in flight keeps its locks (I6).
  private func closeUsers(of served: ServedExport) {
    let begun = nowMilliseconds()
    let handle = StoppableTimer()
    let progress = loop.every(milliseconds: 50) { [self] in
      guard !handle.hasStopped else { return }
      let users = served.users
      if users.isEmpty { return handle.stop() }
      let isOver = nowMilliseconds() - begun >= Int64(limits.shutdownSeconds) * 1000
      for connection in users {
        if isOver { connection.die("its export was removed") }
        connection.closeIfQuiet()
      }
    }
    handle.start(progress)
    for connection in served.users { connection.closeIfQuiet() }
  }
}
