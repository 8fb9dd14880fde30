// Connections that make trouble for others of the same image, and the load that suffers from it.

import Glibc
import Synchronization
import Syscalls
import SystemPackage

/// Where everybody works in the image; half-open, in bytes. Sparse except where `DisturbedImage` writes.
enum Region {
  static let hot: Range<UInt64> = 0..<(256 << 20)
  static let cold: Range<UInt64> = (1 << 30)..<(1 << 30 + 512 << 20)
  static let written: Range<UInt64> = (2 << 30)..<(2 << 30 + 128 << 20)
  static let trimmed: Range<UInt64> = (4 << 30)..<(68 << 30)
  static let imageBytes: UInt64 = 68 << 30
}

enum Neighbour: String, CaseIterable {
  /// Asks for 256 KiB again and again and reads no reply.
  case slowClient = "slow client"
  /// 4 KiB reads at queue depth 32 of what is not in the page cache.
  case coldReader = "cold reader"
  /// 16 TRIMs of 4 GiB - 64 KiB in one send, over and over, and before them a 64 KiB write into the range of each.
  case bigTrims = "16 big TRIMs"
  /// 4 KiB writes and FLUSHes in turn at queue depth 16.
  case flushStorm = "FLUSH storm"

  /// Opens the connection and asks until `run` is stopped.
  fileprivate func disturb(_ target: Target, _ run: NeighbourRun) throws {
    switch self {
    case .slowClient: try requestWithoutReading(target, run)
    case .coldReader: try load(Workload(mix: .randread, depth: 32), Region.cold, target, run)
    case .bigTrims: try trim(target, run)
    case .flushStorm: try load(Workload(mix: .wf, depth: 16), Region.written, target, run)
    }
  }

  private func load(_ workload: Workload, _ region: Range<UInt64>, _ target: Target, _ run: NeighbourRun) throws {
    var workload = workload
    workload.firstByte = region.lowerBound
    workload.spanBytes = UInt64(region.count)
    let connection = try ClientConnection(to: target)
    var loop = try LoadLoop(
      workload, descriptor: connection.descriptor, exportBytes: connection.exportBytes,
      seed: UInt64(MonotonicClock.nanoseconds))
    while !run.isStopped {
      let result = try loop.run(seconds: 0.02)
      if result.errors > 0 { throw BenchError("\(result.errors) requests of the \(rawValue) failed") }
      run.did(result.operations)
    }
  }

  private func requestWithoutReading(_ target: Target, _ run: NeighbourRun) throws {
    let connection = try ClientConnection(to: target)
    var random = Randomness(seed: 1)
    var request = [UInt8](repeating: 0, count: Wire.requestBytes)
    var sent = request.count
    while !run.isStopped {
      if sent == request.count {
        let offset = random.next(below: UInt64(Region.hot.count) >> 18) << 18
        request.withUnsafeMutableBytes {
          $0.baseAddress!.putRequest(.read, cookie: 1, offset: offset, length: 256 << 10)
        }
        sent = 0
      }
      let count = request.withUnsafeBytes {
        send(connection.descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
      }
      if count > 0 {
        sent += count
        if sent == request.count { run.did(1) }
      } else if errno == EAGAIN || errno == EINTR {
        usleep(1000)
      } else {
        throw BenchError("the server left the \(rawValue): \(Errno(rawValue: errno))")
      }
    }
  }

  private func trim(_ target: Target, _ run: NeighbourRun) throws {
    let connection = try ClientConnection(to: target)
    let areas = stride(from: Region.trimmed.lowerBound, to: Region.trimmed.upperBound, by: 4 << 30)
    var writes: [UInt8] = []
    var trims: [UInt8] = []
    var header = [UInt8](repeating: 0, count: Wire.requestBytes)
    for (cookie, area) in areas.enumerated() {
      header.withUnsafeMutableBytes {
        $0.baseAddress!.putRequest(.write, cookie: UInt64(cookie), offset: area + 1 << 30, length: 64 << 10)
      }
      writes += header + [UInt8](repeating: 0x5a, count: 64 << 10)
      header.withUnsafeMutableBytes {
        $0.baseAddress!.putRequest(.trim, cookie: UInt64(cookie), offset: area, length: UInt32((4 << 30) - (64 << 10)))
      }
      trims += header
    }
    while !run.isStopped {
      for requests in [writes, trims] {
        try sendAll(connection.descriptor, requests)
        for _ in 0..<16 {
          let reply = try receiveExactly(connection.descriptor, Wire.simpleReplyBytes)
          guard reply.number(at: 4, as: UInt32.self) == 0 else {
            throw BenchError("a request of the \(rawValue) failed")
          }
        }
      }
      run.did(16)
    }
  }
}

/// A neighbour at work on a thread of its own.
final class NeighbourRun: Sendable {
  private let wantsStop = Atomic<Bool>(false)
  private let count = Atomic<Int>(0)
  private let outcomes = Outcomes<Void>()

  var isStopped: Bool { wantsStop.load(ordering: .relaxed) }

  /// Returns when it is at work, at the latest after 10 s.
  init(_ neighbour: Neighbour, on target: Target) throws {
    try PosixThread.spawn(name: "neighbour") { [self] in
      outcomes.end(Result { try neighbour.disturb(target, self) })
    }
    let end = MonotonicClock.nanoseconds + 10_000_000_000
    while count.load(ordering: .relaxed) == 0, !outcomes.haveEnded(count: 1), MonotonicClock.nanoseconds < end {
      usleep(500)
    }
    if count.load(ordering: .relaxed) == 0 {
      _ = try stop()
      throw BenchError("the \(neighbour.rawValue) got nothing done in 10 s")
    }
  }

  func did(_ operations: Int) { count.add(operations, ordering: .relaxed) }

  /// What it has done so far; for the slow client what it has asked for.
  var operations: Int { count.load(ordering: .relaxed) }

  /// Ends it; throws what it had to complain of.
  func stop() throws {
    wantsStop.store(true, ordering: .relaxed)
    _ = try outcomes.wait(count: 1)
  }
}
