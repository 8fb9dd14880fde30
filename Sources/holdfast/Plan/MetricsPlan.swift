// Where the metrics endpoint listens.

import Syscalls

/// The port of `--metrics` without one; nobody else's in the list of Prometheus exporters.
let metricsPort: UInt16 = 9810

struct MetricsPlan: Equatable, Sendable {
  /// Empty: there is no endpoint.
  var listeners: [SocketAddress] = []
}

extension AddressReader {
  /// `HOST:PORT`, `HOST`, or the path of a Unix socket, `/run/x.sock` or `unix:/run/x.sock`. The answers say who is connected and what
  /// is served, so they stay on this machine unless plain text is allowed to leave it.
  func metrics(_ text: String) throws(AddressMistake) -> [SocketAddress] {
    let path = text.hasPrefix("unix:") ? String(text.dropFirst("unix:".count)) : text
    if path.hasPrefix("/") { return [try unix(path)] }
    if text.hasPrefix("unix:") {
      throw AddressMistake(clause: "\"\(text)\" is not a path; write unix:/run/holdfast/metrics.sock")
    }
    var reader = self
    reader.portWhenMissing = metricsPort
    return try reader.tcp(text)
  }
}
