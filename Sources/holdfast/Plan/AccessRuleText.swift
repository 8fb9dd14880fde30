// Who may have an export, as operators write it: `any`, `unix`, `uid:1000`, `gid:100`, `192.0.2.0/24`, `2001:db8::1`.

import NBDServerCore
import Syscalls

/// Why a text is no rule: a clause that names what was read and says what to write.
struct AccessMistake: Error, Equatable {
  var clause: String
}

extension AccessRule {
  init(parsing text: String) throws(AccessMistake) {
    switch text {
    case "any": self = .anyone
    case "unix": self = .unix
    default:
      let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      if parts.count == 2, parts[0] == "uid" || parts[0] == "gid" {
        guard parts[1].allSatisfy({ $0.isASCII && $0.isNumber }), let number = UInt32(parts[1]) else {
          throw AccessMistake(clause: "\"\(text)\" has no number behind \(parts[0]):; write \(parts[0]):1000")
        }
        self = parts[0] == "uid" ? .unixUser(number) : .unixGroup(number)
      } else {
        self = try AccessRule.network(text)
      }
    }
  }

  private static func network(_ text: String) throws(AccessMistake) -> AccessRule {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let first = parts.first, var bytes = SocketAddress.bytes(ofLiteral: String(first)) else {
      let guess = closest(to: text, in: ["any", "unix"]).map { "did you mean \"\($0)\"?" }
      let examples = "write any, unix, uid:1000, gid:100, 192.0.2.0/24 or 2001:db8::/32"
      throw AccessMistake(clause: "\"\(text)\" is nobody who could be let in; \(guess ?? examples)")
    }
    let bitsMax = bytes.count * 8
    guard parts.count == 2 else { return .network(bytes, bits: bitsMax) }
    guard parts[1].allSatisfy({ $0.isASCII && $0.isNumber }), let bits = Int(parts[1]), bits <= bitsMax else {
      throw AccessMistake(clause: "\"\(parts[1])\" in \"\(text)\" is no prefix length; write 0 to \(bitsMax)")
    }
    let given = bytes
    for index in bytes.indices where bits < (index + 1) * 8 {
      bytes[index] &= bits <= index * 8 ? 0 : ~(0xff >> UInt8(bits - index * 8))
    }
    guard bytes == given else {
      let prefix = SocketAddress.literal(ofBytes: bytes)
      throw AccessMistake(
        clause: "\"\(text)\" goes on behind its prefix; write \(prefix)/\(bits), or \(first) for one address")
    }
    return .network(bytes, bits: bits)
  }

  /// As it is written.
  var text: String {
    switch self {
    case .anyone: "any"
    case .unix: "unix"
    case .unixUser(let user): "uid:\(user)"
    case .unixGroup(let group): "gid:\(group)"
    case .network(let bytes, let bits):
      SocketAddress.literal(ofBytes: bytes) + (bits == bytes.count * 8 ? "" : "/\(bits)")
    }
  }
}
