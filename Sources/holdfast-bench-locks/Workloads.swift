// What is measured: reads of a cached file, locks that meet nobody, locks that all meet.

import RangeLocks
import Syscalls
import SystemPackage

/// Nanoseconds that `body` takes.
func nanoseconds(_ body: () throws -> Void) rethrows -> Double {
  let elapsed = try ContinuousClock().measure(body)
  return Double(elapsed.components.seconds) * 1e9 + Double(elapsed.components.attoseconds) / 1e9
}

/// Scatters `0..<count` over itself for a power of two.
func scattered(_ index: Int, count: Int) -> UInt64 { UInt64((index &* 40_503 &+ 12_345) & (count - 1)) }

/// A scratch file in the page cache.
struct CachedFile {
  /// Few, so that the read is as cheap as it gets: the copy stays in the processor's caches.
  private static let blocks = 64
  private let file: OpenFile
  private let reads = 20_000

  init() throws(Errno) {
    let path = FilePath("/tmp/holdfast-bench-locks-\(UInt64.random(in: 0 ... .max))")
    file = try Files.open(path, [.writable, .createNew])
    try Files.unlink(path)
    let block = [UInt8](repeating: 0xa5, count: 4096)
    for index in 0..<Self.blocks {
      _ = try Files.pwrite(file.descriptor, unsafe block.span.bytes, at: UInt64(index) * 4096)
    }
  }

  func nanosecondsPerRead() throws -> Double {
    var block = [UInt8](repeating: 0, count: 4096)
    let total = try nanoseconds {
      for index in 0..<reads {
        var span = block.mutableSpan
        var bytes = unsafe span.mutableBytes  // Any bytes make a UInt8.
        let offset = scattered(index, count: Self.blocks) * 4096
        let count = try Files.pread(file.descriptor, into: &bytes, at: offset)
        precondition(count == 4096, "the scratch file has all its blocks")
      }
    }
    return total / Double(reads)
  }
}

/// Locks of 4 KiB that come and go, each on a block of its own, beside others that are held meanwhile.
struct Uncontended {
  var inFlight: Int
  private let pairs = 100_000
  private let places = 16_384

  init(inFlight: Int) { self.inFlight = inFlight }

  func nanosecondsPerPair() -> Double {
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    for index in 0..<(inFlight - 1) {
      let start = scattered(index, count: places) * 8192
      _ = table.acquire(start..<(start + 4096), index % 2 == 0 ? .shared : .exclusive)
    }
    let total = nanoseconds {
      for index in 0..<pairs {
        let start = scattered(index &* 7, count: places) * 8192 + 4096
        let (token, isGranted) = table.acquire(start..<(start + 4096), index % 2 == 0 ? .exclusive : .shared)
        precondition(isGranted, "a block of one's own is free")
        table.release(token, granted: &granted)
      }
    }
    return total / Double(pairs)
  }
}

/// 10,000 requests that all arrive before the first one ends; then they end in the order in which they came.
enum Crowd: String, CaseIterable {
  case disjoint
  case writersOfOneBlock = "writers of one block"
  case everyThirdAWriter = "readers and writers (1 in 3) of one block"
  case slidingWindows = "writers, each overlapping the 100 before it"
  case nested = "writers, each inside the one before it"
  case scattered = "writers with scattered starts and one end"

  static let count = 10_000

  private func request(_ index: Int) -> (Range<UInt64>, RangeLockTable.Mode) {
    let number = UInt64(index)
    return switch self {
    case .disjoint: ((number * 4096)..<(number * 4096 + 4096), .exclusive)
    case .writersOfOneBlock: (0..<4096, .exclusive)
    case .everyThirdAWriter: (0..<4096, index % 3 == 0 ? .exclusive : .shared)
    case .slidingWindows: (number..<(number + 100), .exclusive)
    case .nested: (number..<(40_000 - number), .exclusive)
    case .scattered: (holdfast_bench_locks.scattered(index, count: 16_384)..<20_000, .exclusive)
    }
  }

  func nanoseconds() -> Double {
    var table = RangeLockTable()
    var granted: [RangeLockTable.Token] = []
    var tokens: [RangeLockTable.Token] = []
    tokens.reserveCapacity(Self.count)
    var grants = 0
    let total = holdfast_bench_locks.nanoseconds {
      for index in 0..<Self.count {
        let (range, mode) = request(index)
        let (token, isGranted) = table.acquire(range, mode)
        tokens.append(token)
        grants += isGranted ? 1 : 0
      }
      for token in tokens {
        granted.removeAll(keepingCapacity: true)
        table.release(token, granted: &granted)
        grants += granted.count
      }
    }
    precondition(grants == Self.count, "everybody has had the lock")
    return total
  }
}
