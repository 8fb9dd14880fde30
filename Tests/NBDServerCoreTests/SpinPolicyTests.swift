// When a worker looks for bytes before it sleeps.

import NBDServerCore
import Testing

@Suite struct SpinPolicyTests {
  @Test func spinsWhileItFinds() {
    var policy = SpinPolicy()
    for _ in 0..<100 {
      #expect(policy.spins(afterTurnOf: 4096, isLone: true, hasIdleCPU: true) == true)
      policy.found(true)
    }
  }

  @Test func restsTwiceAsLongAfterEachSpinInVain() {
    var policy = SpinPolicy()
    for rest in [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256] {
      #expect(policy.spins(afterTurnOf: 0, isLone: true, hasIdleCPU: true) == true)
      policy.found(false)
      for _ in 0..<rest { #expect(policy.spins(afterTurnOf: 0, isLone: true, hasIdleCPU: true) == false) }
    }
  }

  @Test func findingAgainEndsTheRests() {
    var policy = SpinPolicy()
    for _ in 0..<3 {
      while !policy.spins(afterTurnOf: 0, isLone: true, hasIdleCPU: true) {}
      policy.found(false)
    }
    while !policy.spins(afterTurnOf: 0, isLone: true, hasIdleCPU: true) {}
    policy.found(true)
    #expect(policy.spins(afterTurnOf: 0, isLone: true, hasIdleCPU: true) == true)
    policy.found(false)
    #expect(policy.spins(afterTurnOf: 0, isLone: true, hasIdleCPU: true) == false)
    #expect(policy.spins(afterTurnOf: 0, isLone: true, hasIdleCPU: true) == true, "the first rest is one turn again")
  }

  @Test func letsAClientThatPipelinesGatherItsRequests() {
    var policy = SpinPolicy()
    #expect(policy.spins(afterTurnOf: 4096, isLone: false, hasIdleCPU: true) == false)
    // A request that came alone in between says nothing yet.
    #expect(policy.spins(afterTurnOf: 4096, isLone: true, hasIdleCPU: true) == false)
    var turns = 1
    while !policy.spins(afterTurnOf: 4096, isLone: true, hasIdleCPU: true) { turns += 1 }
    #expect(turns == 32)
  }

  @Test func doesNotSpinAfterBulkOrWithoutAnIdleCPU() {
    var policy = SpinPolicy()
    #expect(policy.spins(afterTurnOf: SpinPolicy.turnBytesMax, isLone: true, hasIdleCPU: true) == true)
    #expect(policy.spins(afterTurnOf: SpinPolicy.turnBytesMax + 1, isLone: true, hasIdleCPU: true) == false)
    #expect(policy.spins(afterTurnOf: 0, isLone: true, hasIdleCPU: false) == false)
  }

  @Test func aLookThatTookAsLongAsAClientTurnWasInterrupted() {
    #expect(!SpinPolicy.wasInterrupted(after: 800, receiving: 0))
    #expect(SpinPolicy.wasInterrupted(after: 5_000, receiving: 28))
    // Copying 64 KiB takes longer, and is no interruption.
    #expect(!SpinPolicy.wasInterrupted(after: 12_000, receiving: 65_536))
    #expect(SpinPolicy.wasInterrupted(after: 30_000, receiving: 65_536))
  }
}
