// A connection of the load generator: connected, through the handshake, ready for requests.

import Glibc
import Syscalls
import SystemPackage

struct ClientConnection: ~Copyable, Sendable {
  private let socket: OwnedDescriptor
  /// As the server told it.
  let exportBytes: UInt64
  /// Of base:allocation, when it was asked for and granted.
  let contextID: UInt32?

  var descriptor: Int32 { socket.number }

  /// Connects and negotiates; every wait is bounded to 30 s.
  init(to target: Target, structured: Bool = false, blockStatus: Bool = false) throws {
    let socket = try Sockets.connect(to: target.address)
    let descriptor = socket.number
    try Sockets.setReceiveTimeout(descriptor, milliseconds: 30_000)
    switch target.address {
    case .ipv4, .ipv6: try Sockets.setNoDelay(descriptor)
    case .unix: break
    }
    let greeting = try receiveExactly(descriptor, 18)
    guard greeting.number(at: 0, as: UInt64.self) == Wire.greetingMagic,
      greeting.number(at: 8, as: UInt64.self) == Wire.optionMagic
    else { throw BenchError("no newstyle NBD server") }
    let noZeroes = UInt32(greeting.number(at: 16, as: UInt16.self)) & Wire.noZeroes
    var out: [UInt8] = []
    out.append(number: Wire.fixedNewstyle | noZeroes)

    var contextID: UInt32?
    if structured || blockStatus {
      appendOption(Wire.optionStructuredReply, [], to: &out)
      try sendAll(descriptor, out)
      out = []
      let isGranted = try receiveReply(descriptor).type == Wire.replyAck
      if blockStatus, isGranted {
        var data = nameData(target.export)
        data.append(number: UInt32(1))
        data += nameData("base:allocation")
        appendOption(Wire.optionSetMetaContext, data, to: &out)
        try sendAll(descriptor, out)
        out = []
        contextID = try receiveContext(descriptor)
      }
    }
    appendOption(Wire.optionGo, nameData(target.export) + [0, 0], to: &out)
    try sendAll(descriptor, out)
    exportBytes = try receiveExport(descriptor)
    self.contextID = contextID
    self.socket = socket
  }

  /// Sends DISC and waits for the server to close.
  consuming func disconnect() throws {
    var request = [UInt8](repeating: 0, count: Wire.requestBytes)
    request.withUnsafeMutableBytes {
      $0.baseAddress!.putRequest(.disconnect, cookie: 0, offset: 0, length: 0)
    }
    try sendAll(descriptor, request)
    var byte: UInt8 = 0
    guard recv(descriptor, &byte, 1, 0) <= 0 else { throw BenchError("the server answered a disconnect") }
  }
}

private func nameData(_ name: String) -> [UInt8] {
  var data: [UInt8] = []
  data.append(number: UInt32(name.utf8.count))
  return data + Array(name.utf8)
}

private func appendOption(_ option: UInt32, _ data: [UInt8], to out: inout [UInt8]) {
  out.append(number: Wire.optionMagic)
  out.append(number: option)
  out.append(number: UInt32(data.count))
  out += data
}

private func receiveReply(_ descriptor: Int32) throws -> (type: UInt32, data: [UInt8]) {
  let header = try receiveExactly(descriptor, 20)
  guard header.number(at: 0, as: UInt64.self) == Wire.optionReplyMagic else {
    throw BenchError("the reply to an option has the wrong magic")
  }
  let length = header.number(at: 16, as: UInt32.self)
  guard length <= 1 << 20 else { throw BenchError("the reply to an option has \(length) bytes") }
  return (header.number(at: 12), try receiveExactly(descriptor, Int(length)))
}

private func receiveContext(_ descriptor: Int32) throws -> UInt32? {
  var contextID: UInt32?
  while true {
    let (type, data) = try receiveReply(descriptor)
    if type == Wire.replyMetaContext, data.count >= 4 { contextID = data.number(at: 0) } else { return contextID }
  }
}

/// The size of the export, once GO is acknowledged.
private func receiveExport(_ descriptor: Int32) throws -> UInt64 {
  var size: UInt64 = 0
  while true {
    let (type, data) = try receiveReply(descriptor)
    switch type {
    case Wire.replyAck: return size
    case Wire.replyInfo:
      if data.count >= 12, data.number(at: 0, as: UInt16.self) == 0 { size = data.number(at: 2) }
    default: throw BenchError("the export is refused: " + String(decoding: data, as: UTF8.self))
    }
  }
}

func receiveExactly(_ descriptor: Int32, _ count: Int) throws -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  var done = 0
  while done < count {
    let received = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress! + done, count - done, 0) }
    if received < 0, errno == EINTR { continue }
    guard received > 0 else {
      throw BenchError(received == 0 ? "the server closed the connection" : "recv: \(Errno(rawValue: errno))")
    }
    done += received
  }
  return bytes
}

func sendAll(_ descriptor: Int32, _ bytes: [UInt8]) throws {
  var done = 0
  while done < bytes.count {
    let sent = bytes.withUnsafeBytes {
      send(descriptor, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
    }
    if sent < 0, errno == EINTR { continue }
    guard sent > 0 else { throw BenchError("send: \(Errno(rawValue: errno))") }
    done += sent
  }
}
