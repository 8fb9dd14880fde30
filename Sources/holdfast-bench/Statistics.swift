// What the rounds of a case come to. Pure.

import Glibc

/// The middle, the least and the most of some values.
struct Summary: Equatable {
  var median: Double
  var least: Double
  var most: Double

  /// Nil for no values. The median of an even number is the mean of the two in the middle.
  init?(_ values: [Double]) {
    guard !values.isEmpty else { return nil }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    (least, most) = (sorted[0], sorted[sorted.count - 1])
  }
}

/// Counts of latencies in buckets that grow with the value: exact below 64 ns, then 32 buckets to each power of two, so that a
/// percentile is at most 3.2 % above the true one.
struct LatencyHistogram {
  private static let stepsPerDoubling = 32
  private static let shift = 5
  private var counts: [UInt32]
  private(set) var count = 0
  private(set) var mostNanoseconds: UInt64 = 0

  init() { counts = [UInt32](repeating: 0, count: Self.stepsPerDoubling * 60) }

  static func bucket(_ nanoseconds: UInt64) -> Int {
    if nanoseconds < UInt64(2 * stepsPerDoubling) { return Int(nanoseconds) }
    let doubling = 63 - nanoseconds.leadingZeroBitCount - shift
    return doubling * stepsPerDoubling + Int(nanoseconds >> UInt64(doubling))
  }

  /// The largest value that falls into `bucket`.
  static func upperBound(_ bucket: Int) -> UInt64 {
    if bucket < 2 * stepsPerDoubling { return UInt64(bucket) }
    let doubling = bucket / stepsPerDoubling - 1
    let step = UInt64(bucket - doubling * stepsPerDoubling)
    return ((step + 1) << UInt64(doubling)) - 1
  }

  @inline(__always)
  mutating func add(_ nanoseconds: UInt64) {
    counts[min(Self.bucket(nanoseconds), counts.count - 1)] &+= 1
    count &+= 1
    if nanoseconds > mostNanoseconds { mostNanoseconds = nanoseconds }
  }

  mutating func add(_ other: LatencyHistogram) {
    for index in counts.indices { counts[index] &+= other.counts[index] }
    count += other.count
    mostNanoseconds = max(mostNanoseconds, other.mostNanoseconds)
  }

  /// The latency that `fraction` (0...1) of all stay within; 0 when there are none.
  func percentile(_ fraction: Double) -> UInt64 {
    guard count > 0 else { return 0 }
    let wanted = max(1, Int((Double(count) * fraction).rounded(.up)))
    var seen = 0
    for (bucket, number) in counts.enumerated() where number > 0 {
      seen += Int(number)
      if seen >= wanted { return min(Self.upperBound(bucket), mostNanoseconds) }
    }
    return mostNanoseconds
  }
}

/// Repeatable random numbers (splitmix64): every server gets the same requests.
struct Randomness {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  @inline(__always)
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// Below `bound`, which is below 2^32.
  @inline(__always)
  mutating func next(below bound: UInt64) -> UInt64 { ((next() >> 32) &* bound) >> 32 }
}
