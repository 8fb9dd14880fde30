// Measures the range locks (docs/range-locks.md): ratios only, so that they mean something on another machine. Each round
// measures both sides of each ratio; the median over the rounds is printed.

import Glibc
import RangeLocks
import Syscalls
import SystemPackage

let rounds = 15

/// The middle of an odd number of values.
func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

/// Two decimals at least; printing without Foundation.
func text(_ value: Double) -> String {
  let hundredths = Int((value * 100).rounded())
  let fraction = hundredths % 100
  return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)"
}

func printRow(_ name: String, _ values: [Double], _ bound: String = "") {
  let padding = String(repeating: " ", count: max(1, 64 - name.count))
  let spread = "(\(text(values.min() ?? 0)) to \(text(values.max() ?? 0)))"
  print("\(name)\(padding)\(text(median(values)))  \(spread)\(bound.isEmpty ? "" : "  bound \(bound)")")
}

/// `--curve`: what holdfast-bench draws. How many requests are in the table, and the nanoseconds of a pair.
if CommandLine.arguments.contains("--curve") {
  for inFlight in [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000] {
    let values = (0..<3).map { _ in Uncontended(inFlight: inFlight).nanosecondsPerPair() }
    print("\(inFlight) \(text(median(values)))")
  }
  exit(0)
}

do {
  let file = try CachedFile()
  let lonely = Uncontended(inFlight: 1)
  var pread: [Double] = []
  var rows: [(name: String, bound: String, values: [Double])] = []

  func measure(_ round: Int, _ row: Int, _ name: String, _ bound: String, _ value: Double) {
    if round == 0 { rows.append((name, bound, [])) }
    rows[row].values.append(value)
  }

  for round in 0..<rounds {
    let preadNanoseconds = try file.nanosecondsPerRead()
    pread.append(preadNanoseconds)
    var row = 0
    measure(
      round, row, "acquire + release, alone / cached 4k pread", "0.25", lonely.nanosecondsPerPair() / preadNanoseconds)
    for inFlight in [2, 16, 64, 256, 1000, 10_000] {
      row += 1
      let value = Uncontended(inFlight: inFlight).nanosecondsPerPair() / preadNanoseconds
      measure(round, row, "acquire + release, \(inFlight) in flight / cached 4k pread", "", value)
    }
    let disjoint = Crowd.disjoint.nanoseconds()
    for crowd in Crowd.allCases where crowd != .disjoint {
      row += 1
      let bound = crowd == .writersOfOneBlock ? "20" : ""
      measure(round, row, "\(Crowd.count) \(crowd.rawValue) / disjoint", bound, crowd.nanoseconds() / disjoint)
    }
    row += 1
    measure(
      round, row, "one of \(Crowd.count) disjoint, came and gone / cached 4k pread", "",
      disjoint / Double(Crowd.count) / preadNanoseconds)
  }
  print("ratio: median of \(rounds) rounds (least to greatest)")
  for row in rows { printRow(row.name, row.values, row.bound) }
  print("for orientation: cached 4k pread \(text(median(pread))) ns")
} catch let error as Errno {
  print("holdfast-bench-locks: cannot use a scratch file in /tmp: \(error)")
}
