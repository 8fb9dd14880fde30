// The maths of latencies: buckets, percentiles, and what a batch adds up to.

import NBDServerCore
import Oracle
import Testing

@Suite struct Histograms {
  /// The first bucket whose bound is not exceeded, looked for one by one.
  private func naiveBucket(_ duration: Int64) -> Int {
    LatencyHistogram.upperBounds.firstIndex { duration <= $0 } ?? LatencyHistogram.upperBounds.count
  }

  @Test func bucketsEndAtPowersOfTwo() {
    for bound in LatencyHistogram.upperBounds {
      for duration in [bound - 1, bound, bound + 1] {
        #expect(LatencyHistogram.bucket(ofNanoseconds: duration) == naiveBucket(duration), "\(duration)")
      }
    }
    for duration in [Int64.min, -1, 0, 1, .max] {
      #expect(LatencyHistogram.bucket(ofNanoseconds: duration) == naiveBucket(max(0, duration)), "\(duration)")
    }
  }

  @Test func bucketsAgreeWithANaiveSearch() {
    let seed = printedSeed()
    var random = SeededGenerator(seed: seed)
    for _ in 0..<20_000 {
      let duration = Int64.random(in: 0...(1 << Int64.random(in: 1...40, using: &random)), using: &random)
      #expect(LatencyHistogram.bucket(ofNanoseconds: duration) == naiveBucket(duration), "\(duration)")
    }
  }

  @Test func nothingHasNoPercentile() { #expect(LatencyHistogram().quantileSeconds(0.5) == nil) }

  @Test func percentilesLieInTheBucketOfTheTrueOne() throws {
    let seed = printedSeed()
    var random = SeededGenerator(seed: seed)
    for _ in 0..<200 {
      var histogram = LatencyHistogram()
      let durations = (0..<Int.random(in: 1...300, using: &random)).map { _ in
        Int64.random(in: 0...(1 << Int64.random(in: 8...33, using: &random)), using: &random)
      }
      for duration in durations { histogram.add(nanoseconds: duration) }
      let sorted = durations.sorted()
      for quantile in [0.0, 0.5, 0.9, 0.99, 1.0] {
        let rank = max(1, Int((quantile * Double(sorted.count)).rounded(.up)))
        let bucket = naiveBucket(sorted[rank - 1])
        let found = try #require(histogram.quantileSeconds(quantile)) * 1e9
        let lower = bucket == 0 ? 0 : Double(LatencyHistogram.upperBounds[bucket - 1])
        let upper = Double(LatencyHistogram.upperBounds[bucket])
        #expect(found >= lower - 1 && found <= upper + 1, "\(quantile) of \(sorted.count): \(found)")
      }
      #expect(histogram.count == UInt64(durations.count))
      #expect(histogram.sumNanoseconds == UInt64(durations.reduce(0, +)))
    }
  }

  @Test func whatTookLongestHasTheLowerBoundOfTheLastBucket() {
    var histogram = LatencyHistogram()
    histogram.add(nanoseconds: .max / 2)
    #expect(histogram.quantileSeconds(0.99) == Double(LatencyHistogram.upperBounds.last!) / 1e9)
  }

  @Test func aTallyTellsWhatWasCountedAndForgetsIt() {
    let seed = printedSeed()
    var random = SeededGenerator(seed: seed)
    var tally = BatchTally()
    for _ in 0..<50 {
      var expected: [CountedCommand: BatchTally.Counts] = [:]
      for _ in 0..<Int.random(in: 0...40, using: &random) {
        let command = CountedCommand.allCases.randomElement(using: &random)!
        if Bool.random(using: &random) {
          let bytes = Int.random(in: 0...100_000, using: &random)
          tally.succeeded(command, bytes: bytes)
          expected[command, default: .init()].bytes += bytes
        } else {
          tally.failed(command)
          expected[command, default: .init()].errors += 1
        }
        expected[command, default: .init()].requests += 1
      }
      #expect(tally.isEmpty == expected.isEmpty)
      var told: [CountedCommand: BatchTally.Counts] = [:]
      tally.tell { told[$0] = $1 }
      #expect(told == expected)
      tally.removeAll()
      #expect(tally.isEmpty)
    }
  }
}

/// A fresh seed, printed so that a failure can be repeated.
func printedSeed(_ test: String = #function) -> UInt64 {
  let seed = UInt64.random(in: .min ... .max)
  print("\(test) seed \(seed)")
  return seed
}
