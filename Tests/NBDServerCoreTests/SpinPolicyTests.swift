// When a worker looks for bytes before it sleeps.

import NBDServerCore
import Testing

@Suite struct SpinPolicyTests {
  @Test func spinsWhileItFinds() {
    var policy = SpinPolicy()
    for _ in 0..<100 {
      #expect(policy.spins(hasIdleCPU: true) == true)
      policy.found(true)
    }
  }

  @Test func restsTwiceAsLongAfterEachSpinInVain() {
    var policy = SpinPolicy()
    for rest in [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256] {
      #expect(policy.spins(hasIdleCPU: true) == true)
      policy.found(false)
      for _ in 0..<rest { #expect(policy.spins(hasIdleCPU: true) == false) }
    }
  }

  @Test func findingAgainEndsTheRests() {
    var policy = SpinPolicy()
    for _ in 0..<3 {
      while !policy.spins(hasIdleCPU: true) {}
      policy.found(false)
    }
    while !policy.spins(hasIdleCPU: true) {}
    policy.found(true)
    #expect(policy.spins(hasIdleCPU: true) == true)
    policy.found(false)
    #expect(policy.spins(hasIdleCPU: true) == false)
    #expect(policy.spins(hasIdleCPU: true) == true, "the first rest is one turn again")
  }

  @Test func doesNotSpinWithoutAnIdleCPU() {
    var policy = SpinPolicy()
    #expect(policy.spins(hasIdleCPU: false) == false)
    #expect(policy.spins(hasIdleCPU: true) == true)
  }

  @Test func theLastSpinTellsWhereTheClientRuns() {
    var policy = SpinPolicy()
    #expect(!policy.clientRunsBeside)
    policy.found(true)
    #expect(policy.clientRunsBeside)
    policy.found(false)
    #expect(!policy.clientRunsBeside)
    policy.found(true)
    #expect(!policy.spins(hasIdleCPU: false))
    #expect(!policy.clientRunsBeside, "every CPU has a worker")
  }

  @Test func aLookThatTookAsLongAsAClientTurnWasInterrupted() {
    #expect(!SpinPolicy.wasInterrupted(after: 800, receiving: 0))
    #expect(SpinPolicy.wasInterrupted(after: 5_000, receiving: 28))
    // Copying 64 KiB takes longer, and is no interruption.
    #expect(!SpinPolicy.wasInterrupted(after: 12_000, receiving: 65_536))
    #expect(SpinPolicy.wasInterrupted(after: 30_000, receiving: 65_536))
  }
}
