// How long requests took, in buckets that double: what a percentile needs, at the cost of two additions.

/// Bucket i holds durations up to `upperBounds[i]` nanoseconds, its bound included, and above that of the one before; the last
/// one holds what took longer.
package struct LatencyHistogram: Sendable, Equatable {
  /// 1 µs to 17 s: below is a memory copy, above is an outage.
  private static let firstExponent = 10
  private static let lastExponent = 34

  /// Of all buckets but the last, nanoseconds, ascending.
  package static let upperBounds: [Int64] = (firstExponent...lastExponent).map { 1 << Int64($0) }

  package static let bucketCount = lastExponent - firstExponent + 2

  /// Durations in each bucket.
  package var buckets: [UInt64]
  package var sumNanoseconds: UInt64

  package init() {
    buckets = Array(repeating: 0, count: LatencyHistogram.bucketCount)
    sumNanoseconds = 0
  }

  /// - Precondition: as many buckets as there are.
  package init(buckets: [UInt64], sumNanoseconds: UInt64) {
    precondition(buckets.count == LatencyHistogram.bucketCount, "a histogram has all its buckets")
    self.buckets = buckets
    self.sumNanoseconds = sumNanoseconds
  }

  /// The bucket of a duration. Negative ones count as zero: clocks of two processors may differ by a little.
  @inline(__always)
  package static func bucket(ofNanoseconds duration: Int64) -> Int {
    guard duration > 1 << Int64(firstExponent) else { return 0 }
    // The number of bits of d-1 is the smallest e with d <= 2^e.
    let exponent = Int64.bitWidth - (duration - 1).leadingZeroBitCount
    return min(exponent - firstExponent, bucketCount - 1)
  }

  package mutating func add(nanoseconds duration: Int64, times: UInt64 = 1) {
    buckets[LatencyHistogram.bucket(ofNanoseconds: duration)] += times
    sumNanoseconds += UInt64(max(0, duration)) * times
  }

  package static func += (a: inout LatencyHistogram, b: LatencyHistogram) {
    for index in a.buckets.indices { a.buckets[index] += b.buckets[index] }
    a.sumNanoseconds += b.sumNanoseconds
  }

  package var count: UInt64 { buckets.reduce(0, +) }

  /// The duration that the fraction `quantile` (0...1) of all did not exceed, seconds, taking them as evenly spread in their bucket.
  /// Nil when there are none.
  package func quantileSeconds(_ quantile: Double) -> Double? {
    let count = count
    guard count > 0 else { return nil }
    let wanted = max(1, min(1, max(0, quantile)) * Double(count))
    var below = 0.0
    for (index, bucket) in buckets.enumerated() where bucket > 0 {
      if below + Double(bucket) >= wanted {
        let lower = index == 0 ? 0 : Double(LatencyHistogram.upperBounds[index - 1])
        // Of the last one only the lower bound is known.
        let upper = index < LatencyHistogram.upperBounds.count ? Double(LatencyHistogram.upperBounds[index]) : lower
        return (lower + (upper - lower) * (wanted - below) / Double(bucket)) / 1e9
      }
      below += Double(bucket)
    }
    return nil
  }
}
