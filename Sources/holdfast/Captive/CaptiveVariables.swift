// What the command of --run is told about the server. Pure.

import Syscalls

/// Names as nbdkit(1) has them, so that its scripts work.
struct CaptiveVariables: Equatable {
  /// The export that `uri` names.
  var export: String
  /// As bound, in the order of the plan; the first one is what `uri` names.
  var listeners: [SocketAddress]

  /// `NAME=value` for the environment. A variable that means nothing here is empty, not absent.
  var assignments: [String] {
    [
      "uri=\(listeners.first.map { exportURI(export, at: $0) } ?? "")",
      "unixsocket=\(unixPath ?? "")",
      "port=\(port.map { "\($0)" } ?? "")",
      "exportname=\(export)",
      "nbd=\(oldURI)",
    ]
  }

  private var unixPath: String? {
    for case .unix(let path) in listeners { return path }
    return nil
  }

  private var port: UInt16? { listeners.lazy.compactMap(\.port).first }

  /// As QEMU's tools took it before there were URIs.
  private var oldURI: String {
    let name = export.isEmpty ? "" : ":exportname=\(export)"
    switch listeners.first {
    case .unix(let path): return "nbd:unix:\(path)\(name)"
    case .some(let address): return "nbd:\(address)\(name)"
    case nil: return ""
    }
  }
}
