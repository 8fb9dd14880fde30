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
  /// Pages that malloc keeps for itself come and go by this much.
  static let memoryKiBMax = 4096

  /// A fifth of all, at least one: each kind of burst once.
  static func warmUp(_ count: Int) -> Int { max(1, min(Burst.allCases.count, count / 5)) }

  /// The middle one of the first third behind the warm-up, and of the last third.
  private static func ends(_ samples: [Sample], _ value: (Sample) -> Int) -> (first: Int, last: Int) {
    let values = samples.dropFirst(warmUp(samples.count)).map(value)
    let third = max(1, values.count / 3)
    func middle(_ part: ArraySlice<Int>) -> Int { part.sorted()[part.count / 2] }
    return (middle(values.prefix(third)), middle(values.suffix(third)))
  }

  /// What grew, one sentence each.
  static func findings(_ samples: [Sample]) -> [String] {
    guard samples.count >= 4 else { return ["\(samples.count) samples are too few to tell"] }
    var findings: [String] = []
    func look(_ what: String, _ value: (Sample) -> Int, mayGrowBy allowed: Int) {
      let (first, last) = ends(samples, value)
      if last - first > allowed { findings.append("\(what) grew from \(first) to \(last)") }
    }
    look("RSS in KiB", \.residentKiB, mayGrowBy: memoryKiBMax)
    look("PSS in KiB", \.proportionalKiB, mayGrowBy: memoryKiBMax)
    look("descriptors", \.descriptors, mayGrowBy: 0)
    look("threads", \.threads, mayGrowBy: 0)
    return findings
  }

  static func summary(_ samples: [Sample]) -> String {
    guard samples.count >= 4 else { return "" }
    let rss = ends(samples, \.residentKiB)
    let pss = ends(samples, \.proportionalKiB)
    let descriptors = ends(samples, \.descriptors)
    let threads = ends(samples, \.threads)
    return """
      \(samples.count) samples, \(warmUp(samples.count)) of them warm-up; medians of the first and the last third: \
      RSS \(rss.first) and \(rss.last) KiB, PSS \(pss.first) and \(pss.last) KiB, \
      descriptors \(descriptors.first) and \(descriptors.last), threads \(threads.first) and \(threads.last)
      """
  }
}
