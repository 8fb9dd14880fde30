// The client's side of the wire format, as far as a load needs it: numbers are big-endian.

import Glibc

enum Wire {
  static let greetingMagic: UInt64 = 0x4e42_444d_4147_4943
  static let optionMagic: UInt64 = 0x4948_4156_454f_5054
  static let optionReplyMagic: UInt64 = 0x0003_e889_0455_65a9
  static let requestMagic: UInt32 = 0x2560_9513
  static let simpleReplyMagic: UInt32 = 0x6744_6698
  static let chunkMagic: UInt32 = 0x668e_33ef

  static let fixedNewstyle: UInt32 = 1
  static let noZeroes: UInt32 = 2
  static let optionGo: UInt32 = 7
  static let optionStructuredReply: UInt32 = 8
  static let optionSetMetaContext: UInt32 = 10
  static let replyAck: UInt32 = 1
  static let replyInfo: UInt32 = 3
  static let replyMetaContext: UInt32 = 4
  static let replyIsError: UInt32 = 1 << 31

  static let requestBytes = 28
  static let simpleReplyBytes = 16
  static let chunkHeaderBytes = 20
  static let chunkDone: UInt16 = 1
  static let chunkBlockStatus: UInt16 = 5
  static let chunkIsError: UInt16 = 1 << 15

  static let flagFUA: UInt16 = 1
  static let flagNoHole: UInt16 = 2
}

enum Command: UInt16 {
  case read = 0
  case write = 1
  case disconnect = 2
  case flush = 3
  case trim = 4
  case writeZeroes = 6
  case blockStatus = 7
}

extension UnsafeRawPointer {
  @inline(__always)
  func number<T: FixedWidthInteger>(at offset: Int, as type: T.Type = T.self) -> T {
    T(bigEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
  }
}

extension UnsafeMutableRawPointer {
  @inline(__always)
  func put<T: FixedWidthInteger>(_ number: T, at offset: Int) {
    storeBytes(of: number.bigEndian, toByteOffset: offset, as: T.self)
  }

  @inline(__always)
  func putRequest(_ command: Command, flags: UInt16 = 0, cookie: UInt64, offset: UInt64, length: UInt32) {
    put(Wire.requestMagic, at: 0)
    put(flags, at: 4)
    put(command.rawValue, at: 6)
    put(cookie, at: 8)
    put(offset, at: 16)
    put(length, at: 24)
  }
}

extension [UInt8] {
  mutating func append<T: FixedWidthInteger>(number: T) {
    for index in stride(from: T.bitWidth - 8, through: 0, by: -8) {
      append(UInt8(truncatingIfNeeded: number >> T(index)))
    }
  }

  func number<T: FixedWidthInteger>(at offset: Int, as type: T.Type = T.self) -> T {
    withUnsafeBytes { $0.baseAddress!.number(at: offset) }
  }
}
