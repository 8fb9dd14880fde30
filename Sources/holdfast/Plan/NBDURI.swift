// URIs that a client can paste (the NBD URI specification, doc/uri.md of the NBD project; RFC 3986 for the escapes).

import Syscalls

/// The URI of an export at `address`, with every byte escaped that a shell or URI parser could take for its own.
func exportURI(_ name: String, at address: SocketAddress) -> String {
  let escaped = percentEncoded(name)
  switch address.reachable {
  case .unix(let path): return "nbd+unix:///\(escaped)?socket=\(percentEncoded(path))"
  // RFC 6874: the % in front of a zone is escaped.
  case .ipv4, .ipv6: return "nbd://\(percentEncoded("\(address.reachable)", keeping: "[]:"))/\(escaped)"
  }
}

extension SocketAddress {
  /// As clients on this machine reach it: an unspecified address is no destination.
  fileprivate var reachable: SocketAddress {
    switch self {
    case .ipv4([0, 0, 0, 0], let port): .ipv4(bytes: [127, 0, 0, 1], port: port)
    case .ipv6(let bytes, let port, let scope) where bytes.allSatisfy { $0 == 0 }:
      .ipv6(bytes: bytes.dropLast() + [1], port: port, scope: scope)
    case .ipv4, .ipv6, .unix: self
    }
  }
}

/// Unreserved characters and `kept` as they are, the other bytes as %XX. A slash is legal in paths and queries.
func percentEncoded(_ text: String, keeping kept: String = "/") -> String {
  var result = ""
  for byte in text.utf8 {
    let scalar = UnicodeScalar(byte)
    switch scalar {
    case "a"..."z", "A"..."Z", "0"..."9", "-", ".", "_", "~": result.unicodeScalars.append(scalar)
    case _ where kept.utf8.contains(byte): result.unicodeScalars.append(scalar)
    default: result += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
    }
  }
  return result
}

/// Nil when an escape is broken or the bytes are not UTF-8.
func percentDecoded(_ text: String) -> String? {
  var bytes: [UInt8] = []
  var rest = text.utf8[...]
  while let byte = rest.popFirst() {
    guard byte == UInt8(ascii: "%") else {
      bytes.append(byte)
      continue
    }
    let digits = String(rest.prefix(2)) ?? ""
    guard digits.count == 2, digits.allSatisfy(\.isHexDigit), let value = UInt8(digits, radix: 16) else { return nil }
    bytes.append(value)
    rest = rest.dropFirst(2)
  }
  return String(validating: bytes, as: UTF8.self)
}
