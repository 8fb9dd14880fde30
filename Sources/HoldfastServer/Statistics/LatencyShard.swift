// Latencies of all requests of a server, spread over a few sets of counters, so that threads which answer at the same time rarely
// meet in one.

import NBDServerCore
import Synchronization

final class LatencyShard: Sendable {
  private static let cells = 7 * 26

  private let buckets = InlineArray<182, Atomic<Int>> { _ in Atomic(0) }
  private let sums = InlineArray<7, Atomic<Int64>> { _ in Atomic(0) }

  init() { precondition(LatencyShard.cells == CountedCommand.allCases.count * LatencyHistogram.bucketCount) }

  /// `times` requests took so long.
  func add(_ command: CountedCommand, nanoseconds: Int64, times: Int = 1) {
    let index = command.rawValue * LatencyHistogram.bucketCount + LatencyHistogram.bucket(ofNanoseconds: nanoseconds)
    sums[command.rawValue].wrappingAdd(max(0, nanoseconds) &* Int64(times), ordering: .relaxed)
    buckets[index].wrappingAdd(times, ordering: .relaxed)
  }

  func add(to total: inout PerCommand<LatencyHistogram>) {
    for command in CountedCommand.allCases {
      let first = command.rawValue * LatencyHistogram.bucketCount
      for bucket in 0..<LatencyHistogram.bucketCount {
        total[command].buckets[bucket] += UInt64(buckets[first + bucket].load(ordering: .relaxed))
      }
      total[command].sumNanoseconds &+= UInt64(bitPattern: sums[command.rawValue].load(ordering: .relaxed))
    }
  }
}

/// One kind of duration, counted by any thread; for what is rarer than requests.
final class SharedHistogram: Sendable {
  private let buckets = InlineArray<26, Atomic<Int>> { _ in Atomic(0) }
  private let sum = Atomic<Int64>(0)

  func add(nanoseconds: Int64) {
    sum.wrappingAdd(max(0, nanoseconds), ordering: .relaxed)
    buckets[LatencyHistogram.bucket(ofNanoseconds: nanoseconds)].wrappingAdd(1, ordering: .relaxed)
  }

  var value: LatencyHistogram {
    var value = LatencyHistogram()
    for bucket in 0..<LatencyHistogram.bucketCount {
      value.buckets[bucket] = UInt64(buckets[bucket].load(ordering: .relaxed))
    }
    value.sumNanoseconds = UInt64(bitPattern: sum.load(ordering: .relaxed))
    return value
  }
}
