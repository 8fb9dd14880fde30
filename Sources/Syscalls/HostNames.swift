// Host names to numeric addresses. Only the start of a process asks: a lookup may wait for a name server.

import Glibc

/// A numeric IPv4 or IPv6 address.
package struct HostAddress: Hashable, Sendable {
  /// As the kernel writes it: `127.0.0.1`, `::1`, `fe80::1%eth0`.
  package var text: String
  package var isIPv6: Bool
  /// Only this machine can reach it.
  package var isLoopback: Bool

  package init(text: String, isIPv6: Bool, isLoopback: Bool) {
    self.text = text
    self.isIPv6 = isIPv6
    self.isLoopback = isLoopback
  }
}

/// A name that has no address, in the words of the resolver.
package struct HostNameError: Error, Equatable {
  package var text: String

  package init(text: String) { self.text = text }
}

/// Every address of `name` (a host name or a numeric address), each once, in the order of the resolver. May block.
/// - Throws: `HostNameError`; the result is never empty.
package func hostAddresses(of name: String) throws(HostNameError) -> [HostAddress] {
  var hints = unsafe addrinfo()
  unsafe hints.ai_family = AF_UNSPEC
  unsafe hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
  var list: UnsafeMutablePointer<addrinfo>?
  let code = unsafe getaddrinfo(name, nil, &hints, &list)
  guard code == 0 else { throw HostNameError(text: unsafe String(cString: gai_strerror(code))) }
  defer { unsafe freeaddrinfo(list) }

  var found: [HostAddress] = []
  var next = unsafe list
  while let info = unsafe next?.pointee {
    if let address = unsafe hostAddress(info), !found.contains(address) { found.append(address) }
    unsafe next = info.ai_next
  }
  guard !found.isEmpty else { throw HostNameError(text: "No IPv4 or IPv6 address") }
  return found
}

private func hostAddress(_ info: addrinfo) -> HostAddress? {
  guard let address = unsafe info.ai_addr else { return nil }
  var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
  let code = unsafe getnameinfo(address, info.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
  guard code == 0 else { return nil }
  let numeric = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  switch unsafe info.ai_family {
  case AF_INET: return HostAddress(text: numeric, isIPv6: false, isLoopback: numeric.hasPrefix("127."))
  case AF_INET6:
    return HostAddress(text: numeric, isIPv6: true, isLoopback: numeric == "::1" || numeric.hasPrefix("::ffff:127."))
  default: return nil
  }
}
