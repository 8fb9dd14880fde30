// The arguments of `serve` to a plan. Pure: the environment and host names are handed in, no file is touched.

import Faults
import Syscalls

extension ServeCommand {
  func plan(resolve: @escaping HostResolver, directories: RuntimeDirectories) throws(CommandFailure) -> ServePlan {
    var plan = ServePlan()
    plan.exports = try exports()
    if images.count == 1 { plan.defaultExport = fileName(images[0]) }
    plan.listeners = try listeners(resolve)
    plan.listenersOrigin = .arguments
    plan.allowsPlaintext = allowPlaintext
    if plan.listeners.isEmpty {
      do throws(AddressMistake) { try plan.listenByDefault(directories) } catch {
        throw CommandFailure(.usage, error.clause)
      }
    }
    if let metrics {
      let reader = AddressReader(
        resolve: resolve, allowsPlaintext: allowPlaintext, permission: plan.plaintextPermission)
      do throws(AddressMistake) { plan.metrics.listeners = try reader.metrics(metrics) } catch {
        throw CommandFailure(.usage, "--metrics: \(error.clause)")
      }
    }
    if let admin { plan.admin = AdminPlan(socket: try adminSocket(admin)) }
    if let socketMode {
      guard let mode = SocketMode(parsing: socketMode) else {
        throw CommandFailure(.usage, "--socket-mode: \(SocketMode.mistake(socketMode))")
      }
      plan.socketMode = mode
    }
    return plan
  }

  private func adminSocket(_ path: String) throws(CommandFailure) -> String {
    do throws(AddressMistake) { return try unixSocketPath(path) } catch {
      throw CommandFailure(.usage, "--admin: \(error.clause)")
    }
  }

  /// A configuration says everything; a mixture would leave in doubt who wins.
  func refuseArgumentsBesideConfiguration() throws(CommandFailure) {
    let given: [(String, Bool)] = [
      ("IMAGE", !images.isEmpty), ("--export", !export.isEmpty), ("--unix", !unix.isEmpty), ("--tcp", !tcp.isEmpty),
      ("--read-only", readOnly), ("--size", size != nil), ("--create", create), ("--socket-mode", socketMode != nil),
      ("--allow-plaintext", allowPlaintext), ("--metrics", metrics != nil), ("--admin", admin != nil),
      ("--fault", !fault.isEmpty),
    ]
    let names = given.filter(\.1).map(\.0)
    guard names.isEmpty else {
      throw CommandFailure(
        .usage, "--config says what to serve; leave out \(names.joined(separator: ", ")), or write it into the file")
    }
  }

  private func exports() throws(CommandFailure) -> [ExportPlan] {
    let size = try createdSize()
    let faults = try fault.map { text throws(CommandFailure) in
      do throws(FaultRuleMistake) { return try FaultRule(parsing: text) } catch {
        throw CommandFailure(.usage, "--fault: \(error.clause)")
      }
    }
    var named = images.map { (name: fileName($0), path: $0) }
    for text in export { named.append(try nameAndPath(text)) }
    guard !named.isEmpty else {
      throw CommandFailure(.usage, "nothing to serve; name an image: holdfast serve disk.img")
    }
    var paths: [String: String] = [:]
    for (name, path) in named {
      if let mistake = exportNameMistake(name) { throw CommandFailure(.usage, "the export of \(path): \(mistake)") }
      if let other = paths.updateValue(path, forKey: name) {
        throw CommandFailure(
          .usage, "\(other) and \(path) would both be exported as \"\(name)\"; name one: --export NAME=\(path)")
      }
    }
    return named.map {
      ExportPlan(name: $0.name, path: $0.path, isReadOnly: readOnly, createdSize: size, faults: faults)
    }
  }

  private func createdSize() throws(CommandFailure) -> ByteSize? {
    switch (create, size) {
    case (false, nil): return nil
    case (false, _?): throw CommandFailure(.usage, "--size is the size of a new image; add --create, or leave it out")
    case (true, nil): throw CommandFailure(.usage, "--create needs the size of the new image; add --size 20G")
    case (true, let text?):
      if readOnly { throw CommandFailure(.usage, "--create and --read-only contradict each other; leave one out") }
      do throws(SizeMistake) {
        return try ByteSize(parsing: text)
      } catch {
        throw CommandFailure(.usage, "--size: \(error.clause)")
      }
    }
  }

  private func nameAndPath(_ text: String) throws(CommandFailure) -> (name: String, path: String) {
    guard let separator = text.firstIndex(of: "=") else {
      throw CommandFailure(.usage, "--export: \"\(text)\" names no image; write --export NAME=IMAGE")
    }
    let name = String(text[..<separator])
    let path = String(text[text.index(after: separator)...])
    if name.isEmpty {
      throw CommandFailure(
        .usage, "--export: \"\(text)\" gives no name; for the default export pass the image alone: \(path)")
    }
    if path.isEmpty { throw CommandFailure(.usage, "--export: \"\(text)\" names no image; write --export NAME=IMAGE") }
    return (name, path)
  }

  private func listeners(_ resolve: @escaping HostResolver) throws(CommandFailure) -> [SocketAddress] {
    let reader = AddressReader(
      resolve: resolve, allowsPlaintext: allowPlaintext, permission: ServePlan().plaintextPermission)
    var result: [SocketAddress] = []
    for path in unix {
      do throws(AddressMistake) { result.append(try reader.unix(path)) } catch {
        throw CommandFailure(.usage, "--unix: \(error.clause)")
      }
    }
    for text in tcp {
      do throws(AddressMistake) { result.append(contentsOf: try reader.tcp(text)) } catch {
        throw CommandFailure(.usage, "--tcp: \(error.clause)")
      }
    }
    if let twice = firstDuplicate(result) {
      throw CommandFailure(.usage, "\(twice) is given twice; leave one out")
    }
    return result
  }
}

/// The last component of a path: the name an image is exported as.
func fileName(_ path: String) -> String {
  path.split(separator: "/").last.map(String.init) ?? path
}

/// An address that stands twice in `addresses`. Port 0 is another port each time.
func firstDuplicate(_ addresses: [SocketAddress]) -> SocketAddress? {
  var seen: Set<SocketAddress> = []
  return addresses.first { $0.port != 0 && !seen.insert($0).inserted }
}
