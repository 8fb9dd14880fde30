// Addresses of stream sockets as values with a text.

import CLinux
import Glibc
import SystemPackage

/// Where a stream socket listens or is connected to.
package enum SocketAddress: Sendable, Hashable {
  /// Four bytes in network order.
  case ipv4(bytes: [UInt8], port: UInt16)
  /// Sixteen bytes in network order.
  case ipv6(bytes: [UInt8], port: UInt16, scope: UInt32)
  case unix(path: String)

  /// Bytes of the longest path a Unix socket can have.
  package static let unixPathBytesMax = 107

  /// The addresses of a host name or literal ("127.0.0.1", "::1", "localhost"), at most 16. Blocks on name services: call it
  /// at start only. Throws `.noRouteToHost` when the name has none.
  package static func resolve(host: String, port: UInt16) throws(Errno) -> [SocketAddress] {
    var found = [hf_address](repeating: hf_address(), count: 16)
    let count = unsafe found.withUnsafeMutableBufferPointer {
      unsafe hf_resolve(host, port, $0.baseAddress, Int32($0.count))
    }
    return found.prefix(Int(try checked(count))).compactMap(SocketAddress.init)
  }

  package var isUnix: Bool { family == AF_UNIX }

  package var port: UInt16? {
    switch self {
    case .ipv4(_, let port), .ipv6(_, let port, _): port
    case .unix: nil
    }
  }

  /// Reachable from this machine only.
  package var isLocal: Bool {
    switch self {
    case .ipv4(let bytes, _): bytes[0] == 127
    case .ipv6(let bytes, _, _):
      bytes == [UInt8](repeating: 0, count: 15) + [1] || (SocketAddress.isMappedIPv4(bytes) && bytes[12] == 127)
    case .unix: true
    }
  }

  /// An IPv4 address in IPv6 clothes, ::ffff:a.b.c.d, as what it is: an IPv6 socket here is for IPv6 only.
  package var unmapped: SocketAddress {
    switch self {
    case .ipv6(let bytes, let port, _) where SocketAddress.isMappedIPv4(bytes):
      .ipv4(bytes: Array(bytes[12...]), port: port)
    case .ipv4, .ipv6, .unix: self
    }
  }

  /// ::ffff:a.b.c.d
  static func isMappedIPv4(_ bytes: [UInt8]) -> Bool { bytes.prefix(12) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] }
}

extension SocketAddress: CustomStringConvertible {
  /// "127.0.0.1:10809", "[::1]:10809", "/run/x.sock"
  package var description: String {
    switch self {
    case .ipv4(let bytes, let port): "\(SocketAddress.dotted(bytes[...])):\(port)"
    case .ipv6(let bytes, let port, let scope):
      if SocketAddress.isMappedIPv4(bytes) {
        "\(SocketAddress.dotted(bytes[12...])):\(port)"
      } else {
        "[\(SocketAddress.colons(bytes))\(scope == 0 ? "" : "%\(scope)")]:\(port)"
      }
    case .unix(let path): path
    }
  }

  /// Four or sixteen bytes in network order; nil when `text` is no address in numbers. Asks nobody.
  package static func bytes(ofLiteral text: String) -> [UInt8]? {
    for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
      var bytes = [UInt8](repeating: 0, count: count)
      let found = unsafe bytes.withUnsafeMutableBytes { unsafe inet_pton(family, text, $0.baseAddress) }
      if found == 1 { return bytes }
    }
    return nil
  }

  /// The text of an address of four or sixteen bytes, without a port.
  package static func literal(ofBytes bytes: [UInt8]) -> String {
    bytes.count == 16 ? colons(bytes) : dotted(bytes[...])
  }

  private static func dotted(_ bytes: ArraySlice<UInt8>) -> String {
    bytes.map(String.init).joined(separator: ".")
  }

  /// RFC 5952: lower case, the first longest run of two or more zero groups becomes "::".
  private static func colons(_ bytes: [UInt8]) -> String {
    let groups = (0..<8).map { UInt16(bytes[2 * $0]) << 8 | UInt16(bytes[2 * $0 + 1]) }
    var zeroes = 0..<0
    var start = 0
    while start < 8 {
      let end = groups[start...].firstIndex { $0 != 0 } ?? 8
      if end - start >= 2, end - start > zeroes.count { zeroes = start..<end }
      start = end + 1
    }
    func text(_ part: ArraySlice<UInt16>) -> String {
      part.map { String($0, radix: 16) }.joined(separator: ":")
    }
    if zeroes.isEmpty { return text(groups[...]) }
    return text(groups[..<zeroes.lowerBound]) + "::" + text(groups[zeroes.upperBound...])
  }
}

extension SocketAddress {
  /// Nil for a family that is not ours.
  init?(_ raw: hf_address) {
    var raw = raw
    switch raw.family {
    case AF_INET, AF_INET6:
      let bytes = unsafe withUnsafeBytes(of: &raw.bytes) { unsafe Array($0) }
      self =
        raw.family == AF_INET
        ? .ipv4(bytes: Array(bytes.prefix(4)), port: raw.port) : .ipv6(bytes: bytes, port: raw.port, scope: raw.scope)
    case AF_UNIX:
      let path = unsafe withUnsafeBytes(of: &raw.path) { unsafe $0.prefix { $0 != 0 }.map { $0 } }
      self = .unix(path: String(decoding: path, as: UTF8.self))
    default: return nil
    }
  }

  /// Throws `.fileNameTooLong` for a Unix path that does not fit, `.invalidArgument` for an empty one.
  func raw() throws(Errno) -> hf_address {
    var raw = hf_address()
    switch self {
    case .ipv4(let bytes, let port):
      raw.family = AF_INET
      raw.port = port
      unsafe withUnsafeMutableBytes(of: &raw.bytes) { unsafe $0.copyBytes(from: bytes.prefix(4)) }
    case .ipv6(let bytes, let port, let scope):
      raw.family = AF_INET6
      raw.port = port
      raw.scope = scope
      unsafe withUnsafeMutableBytes(of: &raw.bytes) { unsafe $0.copyBytes(from: bytes.prefix(16)) }
    case .unix(let path):
      if path.utf8.count > SocketAddress.unixPathBytesMax { throw .fileNameTooLong }
      if path.isEmpty || path.utf8.contains(0) { throw .invalidArgument }
      raw.family = AF_UNIX
      unsafe withUnsafeMutableBytes(of: &raw.path) { unsafe $0.copyBytes(from: path.utf8) }
    }
    return raw
  }

  var family: Int32 {
    switch self {
    case .ipv4: AF_INET
    case .ipv6: AF_INET6
    case .unix: AF_UNIX
    }
  }
}

/// Who is at the other end of an accepted socket.
package enum PeerAddress: Sendable, Hashable, CustomStringConvertible {
  case network(SocketAddress)
  /// Who connected, by SO_PEERCRED at that time; `pid` is 0 when it is outside our pid namespace.
  case unix(pid: Int32, uid: UInt32, gid: UInt32)

  /// "127.0.0.1:4711", "[::1]:4711", "unix pid 123 uid 0"
  package var description: String {
    switch self {
    case .network(let address): address.description
    case .unix(let pid, let uid, _): "unix pid \(pid) uid \(uid)"
    }
  }

  package var isUnix: Bool {
    switch self {
    case .network: false
    case .unix: true
    }
  }
}
