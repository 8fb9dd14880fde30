// The numbers of the NBD specification, written down a second time on purpose: a client that borrowed them from the server
// could not notice a wrong one. Plain integers, because tests also send what has no name.

package enum Magic {
  package static let greeting: UInt64 = 0x4e42_444d_4147_4943
  package static let option: UInt64 = 0x4948_4156_454f_5054
  package static let optionReply: UInt64 = 0x0003_e889_0455_65a9
  package static let request: UInt32 = 0x2560_9513
  package static let simpleReply: UInt32 = 0x6744_6698
  package static let structuredReply: UInt32 = 0x668e_33ef
}

package enum HandshakeFlag {
  package static let fixedNewstyle: UInt32 = 1
  package static let noZeroes: UInt32 = 2
}

package enum Option {
  package static let exportName: UInt32 = 1
  package static let abort: UInt32 = 2
  package static let list: UInt32 = 3
  package static let startTLS: UInt32 = 5
  package static let info: UInt32 = 6
  package static let go: UInt32 = 7
  package static let structuredReply: UInt32 = 8
  package static let listMetaContext: UInt32 = 9
  package static let setMetaContext: UInt32 = 10
  package static let extendedHeaders: UInt32 = 11
}

package enum OptionReplyType {
  package static let ack: UInt32 = 1
  package static let server: UInt32 = 2
  package static let info: UInt32 = 3
  package static let metaContext: UInt32 = 4
  package static let errorBit: UInt32 = 0x8000_0000
  package static let unsupported: UInt32 = 0x8000_0001
  package static let policy: UInt32 = 0x8000_0002
  package static let invalid: UInt32 = 0x8000_0003
  package static let platform: UInt32 = 0x8000_0004
  package static let tlsRequired: UInt32 = 0x8000_0005
  package static let unknown: UInt32 = 0x8000_0006
  package static let shutdown: UInt32 = 0x8000_0007
  package static let blockSizeRequired: UInt32 = 0x8000_0008
  package static let tooBig: UInt32 = 0x8000_0009
}

package enum Info {
  package static let export: UInt16 = 0
  package static let name: UInt16 = 1
  package static let description: UInt16 = 2
  package static let blockSize: UInt16 = 3
}

package enum ExportFlag {
  package static let hasFlags: UInt16 = 1 << 0
  package static let readOnly: UInt16 = 1 << 1
  package static let sendFlush: UInt16 = 1 << 2
  package static let sendFUA: UInt16 = 1 << 3
  package static let rotational: UInt16 = 1 << 4
  package static let sendTrim: UInt16 = 1 << 5
  package static let sendWriteZeroes: UInt16 = 1 << 6
  package static let sendDF: UInt16 = 1 << 7
  package static let canMultiConn: UInt16 = 1 << 8
  package static let sendResize: UInt16 = 1 << 9
  package static let sendCache: UInt16 = 1 << 10
  package static let sendFastZero: UInt16 = 1 << 11
}

package enum Cmd {
  package static let read: UInt16 = 0
  package static let write: UInt16 = 1
  package static let disconnect: UInt16 = 2
  package static let flush: UInt16 = 3
  package static let trim: UInt16 = 4
  package static let cache: UInt16 = 5
  package static let writeZeroes: UInt16 = 6
  package static let blockStatus: UInt16 = 7
}

package enum CmdFlag {
  package static let fua: UInt16 = 1 << 0
  package static let noHole: UInt16 = 1 << 1
  package static let dontFragment: UInt16 = 1 << 2
  package static let reqOne: UInt16 = 1 << 3
  package static let fastZero: UInt16 = 1 << 4
}

package enum ChunkType {
  package static let none: UInt16 = 0
  package static let offsetData: UInt16 = 1
  package static let offsetHole: UInt16 = 2
  package static let blockStatus: UInt16 = 5
  package static let error: UInt16 = 0x8001
  package static let errorOffset: UInt16 = 0x8002
}

/// The error values the specification defines; the only ones a server may send.
package enum NBDErrno {
  package static let permission: UInt32 = 1
  package static let io: UInt32 = 5
  package static let noMemory: UInt32 = 12
  package static let invalid: UInt32 = 22
  package static let noSpace: UInt32 = 28
  package static let overflow: UInt32 = 75
  package static let notSupported: UInt32 = 95
  package static let shutdown: UInt32 = 108
  package static let defined: Set<UInt32> = [
    permission, io, noMemory, invalid, noSpace, overflow, notSupported, shutdown,
  ]
}

extension [UInt8] {
  /// Appends `value` in network byte order.
  package mutating func append<T: FixedWidthInteger>(bigEndian value: T) {
    var shift = T.bitWidth
    while shift > 0 {
      shift -= 8
      append(UInt8(truncatingIfNeeded: value >> T(shift)))
    }
  }
}

/// Reads big-endian numbers from the front of some bytes; traps when they run out, so callers check `remaining` first.
package struct WireReader {
  private let bytes: [UInt8]
  private var at = 0

  package init(_ bytes: [UInt8]) { self.bytes = bytes }

  package var remaining: Int { bytes.count - at }

  package mutating func number<T: FixedWidthInteger & UnsignedInteger>(_: T.Type = T.self) -> T {
    var value: T = 0
    for _ in 0..<(T.bitWidth / 8) {
      value = value << 8 | T(bytes[at])
      at += 1
    }
    return value
  }

  package mutating func take(_ count: Int) -> [UInt8] {
    defer { at += count }
    return [UInt8](bytes[at..<at + count])
  }

  package mutating func rest() -> [UInt8] { take(remaining) }
}

/// The 28 bytes of a request as they go on the wire; every field as the caller wants it, right or wrong.
package func requestBytes(
  _ type: UInt16, flags: UInt16 = 0, cookie: UInt64, offset: UInt64, length: UInt32, magic: UInt32 = Magic.request
) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.reserveCapacity(28)
  bytes.append(bigEndian: magic)
  bytes.append(bigEndian: flags)
  bytes.append(bigEndian: type)
  bytes.append(bigEndian: cookie)
  bytes.append(bigEndian: offset)
  bytes.append(bigEndian: length)
  return bytes
}

/// An option as it goes on the wire; `announced` lies about the length when given.
package func optionBytes(_ option: UInt32, _ data: [UInt8] = [], announced: UInt32? = nil) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.append(bigEndian: Magic.option)
  bytes.append(bigEndian: option)
  bytes.append(bigEndian: announced ?? UInt32(data.count))
  return bytes + data
}

/// The data of NBD_OPT_INFO and NBD_OPT_GO.
package func infoOptionData(_ name: String, _ requests: [UInt16] = []) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.append(bigEndian: UInt32(name.utf8.count))
  bytes += name.utf8
  bytes.append(bigEndian: UInt16(requests.count))
  for request in requests { bytes.append(bigEndian: request) }
  return bytes
}

/// The data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
package func metaContextData(_ name: String, _ queries: [String]) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.append(bigEndian: UInt32(name.utf8.count))
  bytes += name.utf8
  bytes.append(bigEndian: UInt32(queries.count))
  for query in queries {
    bytes.append(bigEndian: UInt32(query.utf8.count))
    bytes += query.utf8
  }
  return bytes
}
