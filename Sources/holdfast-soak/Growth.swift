// Whether a series of samples is flat. Pure.

/// What a daemon takes when nobody is connected.
struct Sample: Equatable, CustomStringConvertible {
  var residentKiB: Int
  var proportionalKiB: Int
  var descriptors: Int
  var threads: Int

  var description: String {
    "RSS \(residentKiB) KiB, PSS \(proportionalKiB) KiB, \(descriptors) descriptors, \(threads) threads"
  }
}

enum Growth {
  /// Malloc keeps pages for itself, and how many differs from round to round by about as much.
  static let memoryKiBMax = 8192

  /// A fifth of all, at least one: each kind of burst once.
  static func warmUp(_ count: Int) -> Int { max(1, min(Burst.allCases.count, count / 5)) }

  /// The middle one of the first third behind the warm-up; of the last third the smallest and the middle one.
  private static func ends(
    _ samples: [Sample], _ value: (Sample) -> Int
  ) -> (first: Int, lastLeast: Int, last: Int) {
    let values = samples.dropFirst(warmUp(samples.count)).map(value)
    let third = max(1, values.count / 3)
    let (first, last) = (values.prefix(third).sorted(), values.suffix(third).sorted())
    return (first[first.count / 2], last.first ?? 0, last[last.count / 2])
  }

  /// What grew, one sentence each.
  static func findings(_ samples: [Sample]) -> [String] {
    guard samples.count >= 4 else { return ["\(samples.count) samples are too few to tell"] }
    var findings: [String] = []
    func look(_ what: String, _ value: (Sample) -> Int, mayGrowBy allowed: Int = 0, least: Bool = false) {
      let ends = ends(samples, value)
      let last = least ? ends.lastLeast : ends.last
      if last - ends.first > allowed { findings.append("\(what) grew from \(ends.first) to \(last)") }
    }
    // After some bursts malloc keeps what they needed for a while; what leaks is there in every sample.
    look("RSS in KiB", \.residentKiB, mayGrowBy: memoryKiBMax, least: true)
    look("PSS in KiB", \.proportionalKiB, mayGrowBy: memoryKiBMax, least: true)
    look("descriptors", \.descriptors)
    look("threads", \.threads)
    return findings
  }

  static func summary(_ samples: [Sample]) -> String {
    guard samples.count >= 4 else { return "" }
    let rss = ends(samples, \.residentKiB)
    let pss = ends(samples, \.proportionalKiB)
    let descriptors = ends(samples, \.descriptors)
    let threads = ends(samples, \.threads)
    return """
      \(samples.count) samples, \(warmUp(samples.count)) of them warm-up; median of the first third, least and median of the \
      last: RSS \(rss.first), \(rss.lastLeast) and \(rss.last) KiB, PSS \(pss.first), \(pss.lastLeast) and \(pss.last) KiB; \
      medians of both: descriptors \(descriptors.first) and \(descriptors.last), \
      threads \(threads.first) and \(threads.last)
      """
  }
}
