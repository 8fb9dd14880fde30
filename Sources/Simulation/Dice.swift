// Everything random in a simulation comes from here, and so from one seed.

import Oracle

struct Dice {
  private var random: SeededGenerator

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  /// 0 up to and without `count`.
  mutating func below(_ count: Int) -> Int {
    precondition(count > 0, "there is something to choose from")
    return Int(random.next().multipliedFullWidth(by: UInt64(count)).high)
  }

  mutating func within(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }

  /// True so many times out of a thousand.
  mutating func chance(_ perMille: Int) -> Bool { perMille > 0 && below(1000) < perMille }

  mutating func pick<Choice>(_ choices: [Choice]) -> Choice { choices[below(choices.count)] }
}
