// A page of which a part is written by people and a part is measured: a new run replaces what stands between its marks and
// nothing else. Pure.

enum Page {
  private static let end = "<!-- measured: end -->"

  /// `page` with the text of each name in `measured` between `<!-- measured: NAME -->` and the next end mark.
  static func replacing(_ page: String, with measured: [String: String]) throws -> String {
    var page = page
    for (name, text) in measured {
      let mark = "<!-- measured: \(name) -->"
      guard let start = page.firstRange(of: mark), let stop = page[start.upperBound...].firstRange(of: end) else {
        throw BenchError("the page has no part \(mark)…\(end)")
      }
      page.replaceSubrange(start.upperBound..<stop.lowerBound, with: "\n\n\(text)\n")
    }
    return page
  }
}
