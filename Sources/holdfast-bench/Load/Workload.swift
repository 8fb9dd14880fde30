// What a load asks of a server.

import Syscalls

/// What the requests are. Offsets are random and aligned to the block, except where said.
enum Mix: String, CaseIterable, Sendable {
  case randread
  case randwrite
  /// 70 % reads, 30 % writes.
  case rw70
  /// Writes with FUA.
  case fua
  case flush
  case trim
  case zero
  /// Writes, trims and zeroes in turn over the same 64 blocks, whatever the connection.
  case wtz
  /// Writes and flushes in turn.
  case wf

  /// Requests carry data and nothing large comes back: a blocking send cannot meet a server that waits for us.
  var sendsMayWait: Bool {
    switch self {
    case .randread, .randwrite, .fua, .flush, .trim, .zero, .wtz, .wf: true
    case .rw70: false
    }
  }
}

struct Workload: Sendable {
  var mix = Mix.randread
  var blockBytes = 4096
  /// Where the requests go: blocks that begin every `strideBytes` (nil: one behind the other) in `spanBytes` (nil: up to the
  /// end of the export) from `firstByte`.
  var firstByte: UInt64 = 0
  var spanBytes: UInt64?
  var strideBytes: UInt64?
  /// Requests in flight on each connection.
  var depth = 1
  /// Each has a thread of its own.
  var connections = 1
  /// One send for each request, as the Linux kernel, libnbd and QEMU do, instead of one for all that can be sent.
  var sendsEach = false
  /// Asks for structured replies; a server that refuses answers with simple ones.
  var structured = false
  var seconds = 1.0
  var warmUpSeconds = 0.1
  var seed: UInt64 = 1
}

/// Where a server listens and what it calls the export.
struct Target: Sendable {
  var address: SocketAddress
  var export = ""
}

/// What a load found.
struct LoadResult: Sendable {
  var operations = 0
  var errors = 0
  var seconds = 0.0
  var latency = LatencyHistogram()

  var perSecond: Double { seconds > 0 ? Double(operations) / seconds : 0 }
}

struct BenchError: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}
