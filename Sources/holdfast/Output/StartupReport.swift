// What `serve` prints when it is ready: each export with URIs that can be pasted.

import Syscalls

/// Printed once every image is open and every socket listens.
struct StartupReport {
  struct Row: Equatable {
    var name: String
    var sizeBytes: UInt64
    var isReadOnly: Bool
  }
  var rows: [Row]
  /// As bound: with the ports that the kernel chose.
  var listeners: [SocketAddress]
  /// Of the metrics endpoint, as bound.
  var metrics: [SocketAddress] = []
  /// Somebody at a terminal may have started it: no service manager has.
  var isByHand = true

  var text: String {
    let count = rows.count == 1 ? "1 export" : "\(rows.count) exports"
    var lines = ["holdfast \(holdfastVersion)  \(count)"]
    for row in rows {
      lines.append("  \(row.name)  \(ByteSize(bytes: row.sizeBytes))\(row.isReadOnly ? ", read-only" : "")")
      lines += listeners.map { "    \(exportURI(row.name, at: $0))" }
    }
    for address in metrics {
      lines.append(
        address.isUnix
          ? "  metrics: curl --unix-socket \(shellQuoted("\(address)")) http://localhost/metrics"
          : "  dashboard: http://\(address)/  metrics: http://\(address)/metrics")
    }
    if let row = rows.first, let listener = listeners.first {
      lines.append("  try: nbdinfo \(shellQuoted(exportURI(row.name, at: listener)))")
    }
    if isByHand { lines.append("  stop: Ctrl-C") }
    return lines.map { $0 + "\n" }.joined()
  }
}

/// `text` as one word for a shell: URIs of Unix sockets have a question mark, which zsh takes for a pattern.
func shellQuoted(_ text: String) -> String {
  let isPlain = text.utf8.allSatisfy { byte in
    switch UnicodeScalar(byte) {
    case "a"..."z", "A"..."Z", "0"..."9", "-", ".", "_", "~", "/", ":", "+", "=", "%", ",": true
    default: false
    }
  }
  guard !isPlain || text.isEmpty else { return text }
  return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
}
