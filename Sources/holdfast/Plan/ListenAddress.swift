// Where the server listens, in the three ways it is written: --unix and --tcp arguments, and URIs in a configuration.

import Syscalls
import SystemPackage

/// Why something is not an address to listen on: a clause that names what was read and says what to write.
struct AddressMistake: Error, Equatable {
  var clause: String
}

/// The port that IANA gave NBD.
let defaultPort: UInt16 = 10809

/// `path` when a Unix socket can have it.
func unixSocketPath(_ path: String) throws(AddressMistake) -> String {
  let bytesMax = SocketAddress.unixPathBytesMax
  if path.isEmpty { throw AddressMistake(clause: "the socket path is empty") }
  if path.utf8.contains(0) { throw AddressMistake(clause: "a socket path cannot have NUL in it") }
  guard path.utf8.count <= bytesMax else {
    throw AddressMistake(clause: "\"\(path)\" has \(path.utf8.count) bytes; a socket path has at most \(bytesMax)")
  }
  return path
}

/// Host names to addresses, as `SocketAddress.resolve` does it; a table in tests.
typealias HostResolver = (_ host: String, _ port: UInt16) throws(Errno) -> [SocketAddress]

/// Reads addresses and keeps the rule that plain text does not leave the machine unasked.
struct AddressReader {
  var resolve: HostResolver
  /// Non-loopback TCP is allowed though nothing encrypts it.
  var allowsPlaintext: Bool
  /// How the operator allows it: `--allow-plaintext`, or a configuration key.
  var permission: String
  var portWhenMissing = defaultPort

  /// A path for a Unix socket.
  func unix(_ path: String) throws(AddressMistake) -> SocketAddress { .unix(path: try unixSocketPath(path)) }

  /// `HOST:PORT`, `HOST`, `[IPv6]:PORT`; every address that the host name stands for.
  func tcp(_ text: String) throws(AddressMistake) -> [SocketAddress] {
    let (host, portText) = try split(text)
    let port: UInt16
    if let portText {
      guard portText.allSatisfy({ $0.isASCII && $0.isNumber }), let number = UInt16(portText) else {
        throw AddressMistake(clause: "\"\(portText)\" in \"\(text)\" is not a port; write 0 to 65535")
      }
      port = number
    } else {
      port = portWhenMissing
    }
    if portText == nil, host.allSatisfy({ $0.isASCII && $0.isNumber }) {
      throw AddressMistake(clause: "\"\(text)\" names no host; write 127.0.0.1:\(text)")
    }
    let addresses: [SocketAddress]
    do throws(Errno) {
      addresses = try resolve(host, port).map(\.unmapped)
    } catch {
      let why = error == .noRouteToHost ? "" : ": \(reason(error))"
      throw AddressMistake(clause: "the host \"\(host)\" has no address\(why)")
    }
    if !allowsPlaintext, let open = addresses.first(where: { !$0.isLocal }) {
      let which = "\(open)" == text ? text : "\(text) (\(open))"
      throw AddressMistake(
        clause: "\(which) can be reached from other machines and nothing encrypts the connection; "
          + "listen on 127.0.0.1, or say \(permission)")
    }
    return addresses
  }

  /// `nbd://HOST[:PORT]` or `nbd+unix:///?socket=PATH`.
  func uri(_ text: String) throws(AddressMistake) -> [SocketAddress] {
    if let rest = text.suffix(behind: "nbd+unix://") {
      guard let path = rest.suffix(behind: "/?socket=") ?? rest.suffix(behind: "?socket=") else {
        let guess = rest.hasPrefix("/") && !rest.contains("?") && rest.count > 1 ? rest : "/run/holdfast/nbd.sock"
        throw AddressMistake(clause: "\"\(text)\" names no socket; write \"nbd+unix:///?socket=\(guess)\"")
      }
      guard let decoded = percentDecoded(path) else {
        throw AddressMistake(clause: "\"\(text)\" has a broken %-escape")
      }
      return [try unix(decoded)]
    }
    if let rest = text.suffix(behind: "nbd://") {
      let host = rest.hasSuffix("/") ? String(rest.dropLast()) : rest
      guard !host.contains("/"), !host.contains("?") else {
        throw AddressMistake(clause: "\"\(text)\" goes on behind the port; an address to listen on is nbd://HOST:PORT")
      }
      return try tcp(host)
    }
    if text.hasPrefix("nbds") { throw AddressMistake(clause: "\"\(text)\" asks for TLS, which is not supported yet") }
    throw AddressMistake(
      clause: "\"\(text)\" is not an address; write nbd://HOST:PORT or nbd+unix:///?socket=PATH")
  }

  private func split(_ text: String) throws(AddressMistake) -> (host: String, port: String?) {
    if let rest = text.suffix(behind: "[") {
      guard let end = rest.firstIndex(of: "]") else {
        throw AddressMistake(clause: "\"\(text)\" has no closing bracket; write [::1]:\(portWhenMissing)")
      }
      let host = String(rest[..<end])
      let behind = rest[rest.index(after: end)...]
      if behind.isEmpty { return (host, nil) }
      guard behind.first == ":" else {
        throw AddressMistake(clause: "\"\(text)\" goes on behind the bracket; write [\(host)]:\(portWhenMissing)")
      }
      return (host, String(behind.dropFirst()))
    }
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    if parts.count > 2 {
      throw AddressMistake(
        clause: "\"\(text)\" has several colons; write an IPv6 address in brackets, [::1]:\(portWhenMissing)")
    }
    guard let host = parts.first, !host.isEmpty else {
      throw AddressMistake(clause: "\"\(text)\" names no host; write 127.0.0.1:\(portWhenMissing)")
    }
    return (String(host), parts.count == 2 ? String(parts[1]) : nil)
  }
}

extension StringProtocol {
  fileprivate func suffix(behind prefix: String) -> String? {
    hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
  }
}
