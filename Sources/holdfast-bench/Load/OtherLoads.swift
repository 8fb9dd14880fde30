// Loads that are not requests in flight: connecting, being idle, asking for the whole map.

import Glibc
import Syscalls

/// `clients` threads connect, negotiate, disconnect and wait for the server's close, over and over.
func runConnects(clients: Int, seconds: Double, on target: Target, between: () throws -> Void) throws -> LoadResult {
  let outcomes = Outcomes<LoadResult>()
  try ClientConnection(to: target).disconnect()
  try between()
  let start = MonotonicClock.nanoseconds
  for _ in 0..<clients {
    try PosixThread.spawn(name: "connects") {
      outcomes.end(
        Result {
          var result = LoadResult()
          var now = start
          while Double(now - start) < seconds * 1e9 {
            try ClientConnection(to: target).disconnect()
            let end = MonotonicClock.nanoseconds
            result.latency.add(UInt64(end - now))
            result.operations += 1
            now = end
          }
          result.seconds = Double(now - start) / 1e9
          return result
        })
    }
  }
  var total = LoadResult()
  for result in try outcomes.wait(count: clients) {
    total.operations += result.operations
    total.seconds = max(total.seconds, result.seconds)
    total.latency.add(result.latency)
  }
  return total
}

/// Holds connections that have read a block each and then ask for nothing.
final class IdleConnections {
  private var descriptors: [Int32] = []

  func open(_ count: Int, on target: Target) throws {
    for _ in 0..<count {
      let connection = try ClientConnection(to: target)
      var request = [UInt8](repeating: 0, count: Wire.requestBytes)
      request.withUnsafeMutableBytes { $0.baseAddress!.putRequest(.read, cookie: 1, offset: 0, length: 4096) }
      try sendAll(connection.descriptor, request)
      _ = try receiveExactly(connection.descriptor, Wire.simpleReplyBytes + 4096)
      descriptors.append(dup(connection.descriptor))
    }
  }

  deinit { for descriptor in descriptors { close(descriptor) } }
}

/// Asks for the status of the whole export, one request after the other; the extents, neighbours of one status as one.
func walkMap(on target: Target) throws -> Int {
  try walkMap(ClientConnection(to: target, blockStatus: true))
}

func walkMap(_ connection: borrowing ClientConnection) throws -> Int {
  guard connection.contextID != nil else { throw BenchError("the server has no base:allocation") }
  var request = [UInt8](repeating: 0, count: Wire.requestBytes)
  var offset: UInt64 = 0
  var extents = 0
  var last: UInt32?
  while offset < connection.exportBytes {
    let length = UInt32(min(connection.exportBytes - offset, 0xffff_f000))
    request.withUnsafeMutableBytes {
      $0.baseAddress!.putRequest(.blockStatus, cookie: 1, offset: offset, length: length)
    }
    try sendAll(connection.descriptor, request)
    let before = offset
    var isDone = false
    while !isDone {
      let header = try receiveExactly(connection.descriptor, Wire.chunkHeaderBytes)
      guard header.number(at: 0, as: UInt32.self) == Wire.chunkMagic else { throw BenchError("no structured reply") }
      let type: UInt16 = header.number(at: 6)
      isDone = header.number(at: 4, as: UInt16.self) & Wire.chunkDone != 0
      let data = try receiveExactly(connection.descriptor, Int(header.number(at: 16, as: UInt32.self)))
      guard type & Wire.chunkIsError == 0 else { throw BenchError("the server refuses BLOCK_STATUS") }
      guard type == Wire.chunkBlockStatus else { continue }
      for at in stride(from: 4, to: data.count - 7, by: 8) {
        let status: UInt32 = data.number(at: at + 4)
        if status != last { extents += 1 }
        last = status
        offset += UInt64(data.number(at: at, as: UInt32.self))
      }
    }
    guard offset > before else { throw BenchError("the server's map does not go on at \(offset)") }
  }
  return extents
}
