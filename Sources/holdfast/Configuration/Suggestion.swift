// "Did you mean …?"

/// The candidate that a slip of the fingers may have turned into `word`: at most a third of its letters changed,
/// dropped, added or swapped. Of equally close ones the first in the alphabet.
func closest(to word: String, in candidates: some Sequence<String>) -> String? {
  let ranked = candidates.map { (distance: editDistance(word, $0), candidate: $0) }
  let best = ranked.min { ($0.distance, $0.candidate) < ($1.distance, $1.candidate) }
  guard let best, best.distance <= max(1, word.count / 3) else { return nil }
  return best.candidate
}

/// Changes that turn `first` into `second`, where swapping two neighbours is one (optimal string alignment).
func editDistance(_ first: String, _ second: String) -> Int {
  let a = Array(first)
  let b = Array(second)
  var rows = [Array(0...b.count)]
  for i in 1...max(1, a.count) where i <= a.count {
    var row = [i]
    for j in 1...max(1, b.count) where j <= b.count {
      var cost = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1))
      if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] { cost = min(cost, rows[i - 2][j - 2] + 1) }
      row.append(cost)
    }
    rows.append(row)
  }
  return rows[a.count][b.count]
}
