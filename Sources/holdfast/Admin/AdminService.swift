// What the daemon does when an admin client asks. Runs on the client's thread and may wait for disks.

import BlockBackend
import HoldfastServer
import Logging
import NBDServerCore
import Syscalls
import SystemPackage

struct AdminService: Sendable {
  let server: Server
  let exports: ExportControl
  /// What the server does now.
  let status: @Sendable () -> JSON
  let logger: Logger

  /// How long an immediate removal or a pause waits when nobody says, seconds.
  private static let waitSecondsDefault = 10
  private static let waitSecondsMax = 3600

  /// The reply to one line.
  func answer(_ line: [UInt8], _ peer: PeerAddress) -> JSON {
    var id: JSON?
    do throws(CommandFailure) {
      let request = try AdminRequest(parsing: line, id: &id)
      do throws(CommandFailure) {
        let result = try execute(request)
        if request.command.changesSomething { log(request, peer, "done: \(result.text)") }
        return AdminReply.success(result, id: id)
      } catch {
        if request.command.changesSomething { log(request, peer, "refused: \(error.message)") }
        throw error
      }
    } catch {
      return AdminReply.failure(error, id: id)
    }
  }

  private func log(_ request: AdminRequest, _ peer: PeerAddress, _ outcome: String) {
    logger.notice("admin: \(request.command.rawValue) \(outcome)", metadata: ["peer": "\(peer)"])
  }

  private func execute(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    switch request.command {
    case .status: return try look(request)
    case .exportAdd: return try addExport(request)
    case .exportRemove: return try removeExport(request)
    case .exportResize: return try resizeExport(request)
    case .exportPause: return try pauseExport(request)
    case .exportResume:
      let name = try exportName(request)
      try exports.resume(name)
      return ["export": .string(name)]
    case .exportShow:
      let name = try exportName(request)
      try exports.show(name)
      return ["export": .string(name)]
    case .connectionKill: return try killConnection(request)
    case .snapshot: return try snapshot(request)
    case .clearError: return try clearError(request)
    case .reload: return try reload(request)
    }
  }

  private func exportName(_ request: AdminRequest) throws(CommandFailure) -> String {
    try request.read { $0.requiredString("export") }
  }

  // MARK: Looking

  private func look(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    _ = try request.read { _ in true }
    return status()
  }

  // MARK: Exports

  private func addExport(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    let mistakes = MistakeList()
    let reader = ConfigurationReader(
      directory: "", resolve: SocketAddress.resolve, directories: RuntimeDirectories.ofThisProcess())
    let plan = reader.export(request.keys, 1, 0, mistakes)
    guard let plan, mistakes.mistakes.isEmpty else {
      throw CommandFailure(.usage, mistakes.mistakes.map(\.text).sorted().joined(separator: "; "))
    }
    guard plan.path.hasPrefix("/") else {
      throw CommandFailure(
        .usage, "\"path\" is \(plan.path); the daemon has a directory of its own, so write it from the root")
    }
    try exports.add(plan)
    return ["export": .string(plan.name), "path": .string(plan.path)]
  }

  private func removeExport(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    let (name, mode, wait) = try request.read { keys -> (String, RemovalMode, Int)? in
      let name = keys.requiredString("export")
      var mode: RemovalMode? = .refuse
      if let (text, line) = keys.string("mode") {
        mode = RemovalMode(rawValue: text)
        if mode == nil { keys.mistake(line, "\"mode\" is \"\(text)\"; write \(RemovalMode.list)") }
      }
      let wait =
        keys.integer("wait", in: 0...AdminService.waitSecondsMax)
        ?? (mode == .hide || mode == .drain ? 0 : AdminService.waitSecondsDefault)
      guard let name, let mode else { return nil }
      return (name, mode, wait)
    }
    let report = try exports.remove(name, mode, waitSeconds: wait)
    if let error = report.syncError {
      throw CommandFailure(
        .ioError,
        "the export \"\(name)\" is removed, but the last sync of its image failed: \(error); acknowledged writes may be lost"
      )
    }
    return [
      "export": .string(name), "mode": .string(mode.rawValue), "connections": JSON(Int64(report.connections)),
      "gone": .boolean(report.isGone),
    ]
  }

  private func resizeExport(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    var request = request
    // Bytes may also be written as a number.
    if case .integer(let bytes)? = request.keys["size"]?.value {
      request.keys["size"] = ConfigurationNode(.string("\(bytes)"))
    }
    let (name, size) = try request.read { keys -> (String, ByteSize)? in
      let name = keys.requiredString("export")
      guard let text = keys.requiredString("size") else { return nil }
      do throws(SizeMistake) {
        let size = try ByteSize(parsing: text)
        return name.map { ($0, size) }
      } catch {
        keys.mistake(1, "\"size\": \(error.clause)")
        return nil
      }
    }
    let (old, new) = try exports.resize(name, to: size.bytes)
    return ["export": .string(name), "old_size": JSON(old), "new_size": JSON(new)]
  }

  private func pauseExport(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    let (name, wait) = try request.read { keys -> (String, Int)? in
      let name = keys.requiredString("export")
      let wait = keys.integer("wait", in: 0...AdminService.waitSecondsMax) ?? AdminService.waitSecondsDefault
      return name.map { ($0, wait) }
    }
    let isQuiet = try exports.pause(name, waitSeconds: wait)
    return ["export": .string(name), "quiet": .boolean(isQuiet)]
  }

  // MARK: Connections

  private func killConnection(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    let id = try request.read { keys -> Int? in
      if !keys.has("connection") { keys.mistake(1, "\"connection\" is missing") }
      return keys.integer("connection", in: 0...Int.max)
    }
    guard server.killConnection(ConnectionID(rawValue: UInt64(id))) else {
      throw CommandFailure(.noInput, "there is no connection \(id); \"status\" lists those there are")
    }
    return ["connection": .integer(id)]
  }

  // MARK: Images

  private func image(named name: String) throws(CommandFailure) -> Image {
    if let image = server.image(named: name) { return image }
    let guess = closest(to: name, in: server.exportNames).map { "; did you mean \"\($0)\"?" } ?? ""
    throw CommandFailure(.noInput, "there is no export \"\(name)\"\(guess)")
  }

  private func snapshot(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    let (name, file) = try request.read { keys -> (String, String)? in
      let name = keys.requiredString("export")
      let file = keys.requiredString("file")
      if let file, !file.hasPrefix("/") || file.utf8.contains(0) {
        keys.mistake(1, "\"file\" is \(file); the daemon has a directory of its own, so write it from the root")
      }
      guard let name, let file else { return nil }
      return (name, file)
    }
    let image = try image(named: name)
    do throws(SnapshotError) {
      let report = try image.snapshot(to: FilePath(file))
      return [
        "export": .string(name), "file": .string(file), "size": JSON(report.sizeBytes),
        "stall_milliseconds": .number(milliseconds(report.stallNanoseconds)),
        "lock_wait_milliseconds": .number(milliseconds(report.lockWaitNanoseconds)),
        "milliseconds": .number(milliseconds(report.totalNanoseconds)),
      ]
    } catch {
      throw CommandFailure(error, export: name)
    }
  }

  private func milliseconds(_ nanoseconds: Int64) -> Double { Double(nanoseconds / 1000) / 1000 }

  private func clearError(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    let name = try exportName(request)
    let image = try image(named: name)
    let error: Errno?
    do throws(WholeLockError<BackendError>) { error = try image.clearError() } catch {
      switch error {
      case .busy:
        throw CommandFailure(
          .unavailable,
          "the error of export \"\(name)\" is being cleared by another command, or its requests in flight did not end within "
            + "\(Limits.wholeLockMilliseconds / 1000) s; try again, or look at slow operations in \"status\"")
      case .failed(let error):
        throw CommandFailure(
          .ioError, "export \"\(name)\" still cannot be synced: \(reason(error.errno)); its error was not cleared")
      }
    }
    if let error {
      logger.warning(
        "the error of a failed sync was cleared: \(error); what was written before that sync may be lost, whatever FLUSH says from now on",
        metadata: ["export": "\(name)"])
    }
    return ["export": .string(name), "error": error.map { .string("\($0)") } ?? nil]
  }

  // MARK: The configuration

  private func reload(_ request: AdminRequest) throws(CommandFailure) -> JSON {
    _ = try request.read { _ in true }
    let report = try exports.reload()
    func names(_ names: [String]) -> JSON { .array(names.map { .string($0) }) }
    return [
      "added": names(report.added), "removed": names(report.removed), "changed": names(report.changed),
      "replaced": names(report.replaced), "unchanged": names(report.unchanged), "notices": names(report.notices),
      "lines": names(report.lines),
    ]
  }
}

extension RemovalMode {
  static var list: String { allCases.map(\.rawValue).joined(separator: ", ") }
}

extension CommandFailure {
  init(_ error: SnapshotError, export: String) {
    switch error {
    case .failed(let error):
      let status = ExitStatus(copying: error.errno)
      self.init(status, error.description + adviceInUnit(status))
    case .syncFailed(let errno):
      self.init(
        .ioError,
        "export \"\(export)\" cannot be synced: \(reason(errno)); a copy would lack what clients believe to be written (see clear-error)"
      )
    case .busy(let milliseconds):
      self.init(
        .unavailable,
        "the requests in flight of export \"\(export)\" did not end within \(milliseconds / 1000) s; try again when less is "
          + "trimmed or zeroed, or look at slow operations in \"status\"")
    }
  }
}

extension ExitStatus {
  /// For a copy that could not be made.
  fileprivate init(copying errno: Errno) {
    switch errno {
    case .permissionDenied, .notPermitted, .readOnlyFileSystem: self = .noPermission
    case .ioError: self = .ioError
    default: self = .cannotCreate
    }
  }
}
