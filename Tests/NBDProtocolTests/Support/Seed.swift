// Everything random of a test comes from one printed seed.

import Oracle

typealias SeededGenerator = Oracle.SeededGenerator

/// A fresh seed, printed so that a failure can be repeated: put the number in the place of the call.
func printedSeed(_ test: String = #function) -> UInt64 {
  let seed = UInt64.random(in: .min ... .max)
  print("\(test) seed \(seed)")
  return seed
}
