// When a worker looks for bytes before it sleeps.

import NBDServerCore
import Testing

@Suite struct SpinPolicyTests {
  @Test func spinsWhileItFinds() {
    var policy = SpinPolicy()
    for _ in 0..<100 {
      #expect(policy.spins(hasIdleCPU: true) == true)
      policy.ended(paid: true)
    }
  }

  @Test func restsTwiceAsLongAfterEachSpinInVain() {
    var policy = SpinPolicy()
    for rest in [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256] {
      #expect(policy.spins(hasIdleCPU: true) == true)
      policy.ended(paid: false)
      for _ in 0..<rest { #expect(policy.spins(hasIdleCPU: true) == false) }
    }
  }

  @Test func findingAgainEndsTheRests() {
    var policy = SpinPolicy()
    for _ in 0..<3 {
      while !policy.spins(hasIdleCPU: true) {}
      policy.ended(paid: false)
    }
    while !policy.spins(hasIdleCPU: true) {}
    policy.ended(paid: true)
    #expect(policy.spins(hasIdleCPU: true) == true)
    policy.ended(paid: false)
    #expect(policy.spins(hasIdleCPU: true) == false)
    #expect(policy.spins(hasIdleCPU: true) == true, "the first rest is one turn again")
  }

  @Test func aSpinPaysThatBringsSomethingUsefulUndisturbed() {
    let much = SpinPolicy.usefulBytesMin
    for (bytes, endsMessage, wasInterrupted, pays) in [
      (28, true, false, true), (28, true, true, false), (much, false, false, true), (much, false, true, false),
      (much - 1, false, false, false), (1, false, false, false), (0, false, false, false),
    ] {
      var policy = SpinPolicy()
      policy.ended(bringing: bytes, endsMessage: endsMessage, wasInterrupted: wasInterrupted)
      #expect(policy.spins(hasIdleCPU: true) == pays, "\(bytes), \(endsMessage), \(wasInterrupted)")
    }
  }

  @Test func doesNotSpinWithoutAnIdleCPU() {
    var policy = SpinPolicy()
    #expect(policy.spins(hasIdleCPU: false) == false)
    #expect(policy.spins(hasIdleCPU: true) == true)
  }

  @Test func theLastSpinTellsWhereTheClientRunsForAWhile() {
    var policy = SpinPolicy()
    #expect(policy.clientRunsBeside() == false)
    policy.ended(paid: true)
    for _ in 0..<64 { #expect(policy.clientRunsBeside() == true) }
    #expect(policy.clientRunsBeside() == false, "the scheduler may have moved it")
    policy.ended(paid: true)
    policy.ended(paid: false)
    #expect(policy.clientRunsBeside() == false)
    policy.ended(paid: true)
    #expect(policy.spins(hasIdleCPU: false) == false)
    #expect(policy.clientRunsBeside() == false, "every CPU has a worker")
  }

  @Test func aLookThatTookAsLongAsAClientTurnWasInterrupted() {
    #expect(!SpinPolicy.wasInterrupted(after: 800, receiving: 0))
    #expect(SpinPolicy.wasInterrupted(after: 5_000, receiving: 28))
    // Copying 64 KiB takes longer, and is no interruption.
    #expect(!SpinPolicy.wasInterrupted(after: 12_000, receiving: 65_536))
    #expect(SpinPolicy.wasInterrupted(after: 30_000, receiving: 65_536))
  }
}

extension SpinPolicy {
  fileprivate mutating func ended(paid: Bool) {
    ended(bringing: paid ? 28 : 0, endsMessage: paid, wasInterrupted: false)
  }
}
