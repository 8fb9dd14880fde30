// Who may have an export: addresses and, on Unix sockets, who the kernel says is at the other end. Pure.

/// What is known of a client before it says anything.
package enum PeerIdentity: Sendable, Equatable {
  /// Address bytes in network order, 4 or 16; an IPv4 address in IPv6 clothes counts as what it is.
  case network([UInt8])
  /// SO_PEERCRED at the time of its connect: effective user and primary group.
  case unix(user: UInt32, group: UInt32)
}

/// One thing that lets a client in. An export has a list of them; one that fits is enough.
package enum AccessRule: Sendable, Hashable {
  case anyone
  /// The first `bits` bits of an address of 4 or 16 bytes.
  case network([UInt8], bits: Int)
  /// Any Unix socket.
  case unix
  case unixUser(UInt32)
  case unixGroup(UInt32)

  package func admits(_ peer: PeerIdentity) -> Bool {
    switch (self, peer) {
    case (.anyone, _): true
    case (.network(let prefix, let bits), .network(let address)):
      AccessRule.begins(AccessRule.unmapped(address), with: prefix, bits: bits)
    case (.unix, .unix): true
    case (.unixUser(let user), .unix(let own, _)): user == own
    case (.unixGroup(let group), .unix(_, let own)): group == own
    case (.network, .unix), (.unix, .network), (.unixUser, .network), (.unixGroup, .network): false
    }
  }

  private static func begins(_ address: [UInt8], with prefix: [UInt8], bits: Int) -> Bool {
    guard address.count == prefix.count, bits <= prefix.count * 8 else { return false }
    for index in 0..<prefix.count {
      let rest = bits - index * 8
      guard rest > 0 else { return true }
      let mask: UInt8 = rest >= 8 ? 0xff : ~(0xff >> UInt8(rest))
      guard address[index] & mask == prefix[index] & mask else { return false }
    }
    return true
  }

  /// ::ffff:a.b.c.d is a.b.c.d.
  private static func unmapped(_ address: [UInt8]) -> [UInt8] {
    let prefix: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
    return address.count == 16 && Array(address.prefix(12)) == prefix ? Array(address[12...]) : address
  }
}

extension [AccessRule] {
  /// One rule is enough. No rule: nobody.
  package func admits(_ peer: PeerIdentity) -> Bool { contains { $0.admits(peer) } }
}
