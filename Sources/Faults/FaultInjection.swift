// Carries fault rules out: calls in, answers out. The same calls in the same order get the same answers, in the daemon and in
// the simulation: it reads no clock, and its dice are seeded.

import BlockBackend
import SystemPackage

/// The rules of one image and how far each has come. Its owner excludes: one call at a time.
package struct FaultInjection: Sendable {
  private var rules: [RuleInForce]

  package init(_ rules: [FaultRule]) { self.rules = rules.map(RuleInForce.init) }

  /// What happens to `call`. The rules are asked in order: delays add up, and the first rule with an effect decides; those
  /// behind it do not see the call.
  package mutating func answer(_ call: FileCall) -> FileCallAnswer {
    // A try to read without waiting is not counted, and must not go around a rule: it is sent on to `read`.
    if call.kind == .readCached {
      let mayBeRead = !rules.contains { $0.rule.kinds.contains(.read) }
      return mayBeRead ? .perform : .fail(.resourceTemporarilyUnavailable)
    }
    var answer = FileCallAnswer.perform
    var delay: Duration?
    for index in rules.indices where rules[index].hits(call) {
      let rule = rules[index].rule
      if let more = rule.delay { delay = (delay ?? .zero) + more }
      answer = rule.effect.answer(to: call)
      if answer != .perform { break }
    }
    if call.kind.frees, !answer.isFailure {
      for index in rules.indices { rules[index].imageWasTrimmed() }
    }
    return delay.map { .delay($0, then: answer) } ?? answer
  }
}

private struct RuleInForce: Sendable {
  let rule: FaultRule
  /// Calls that match, so far.
  private var matching: UInt64 = 0
  private var hitCount: UInt64 = 0
  private var isFull = false

  init(_ rule: FaultRule) { self.rule = rule }

  /// Counts the call.
  mutating func hits(_ call: FileCall) -> Bool {
    guard rule.kinds.contains(call.kind), touches(call) else { return false }
    if isFull { return true }
    matching += 1
    guard matching >= rule.nth, hitCount < rule.timesMax ?? .max else { return false }
    guard rule.probability >= 1 || draw(matching) < rule.probability else { return false }
    hitCount += 1
    isFull = rule.effect == .fullUntilTrimmed
    return true
  }

  mutating func imageWasTrimmed() { isFull = false }

  private func touches(_ call: FileCall) -> Bool {
    guard let range = rule.range else { return true }
    // A seek has no length: it asks about the byte where it begins.
    let (end, isTooFar) = call.offset.addingReportingOverflow(max(call.length, 1))
    return call.offset < range.upperBound && range.lowerBound < (isTooFar ? .max : end)
  }

  /// The `number`th number of the seed, 0 up to 1 (SplitMix64).
  private func draw(_ number: UInt64) -> Double {
    var mixed = rule.seed &+ number &* 0x9e37_79b9_7f4a_7c15
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    mixed ^= mixed >> 31
    // 53 bits are what a Double holds exactly.
    return Double(mixed >> 11) / Double(UInt64(1) << 53)
  }
}

extension FaultRule.Effect {
  fileprivate func answer(to call: FileCall) -> FileCallAnswer {
    switch self {
    case .none: .perform
    case .fail(let errno): .fail(errno)
    case .short(bytes: 0): .pretend(0)
    case .short(let bytes): bytes < call.length ? .performOnly(bytes: bytes) : .perform
    case .lose: .pretend(call.length)
    case .fullUntilTrimmed: .fail(.noSpace)
    }
  }
}

extension FileCallAnswer {
  fileprivate var isFailure: Bool {
    switch self {
    case .fail: true
    case .perform, .performOnly, .pretend: false
    case .delay(_, let after): after.isFailure
    }
  }
}
