// When a worker looks for bytes before it sleeps.

import NBDProtocol
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
    let (header, much) = (RequestHeader.byteCount, SpinPolicy.payloadBytesMin)
    for (bytes, awaitsPayload, endsMessage, wasInterrupted, pays) in [
      (header, false, true, false, true), (header, false, true, true, false),
      // The header of a WRITE, whose payload is still on its way.
      (header, false, false, false, true), (header - 1, false, false, false, false), (4, false, true, false, true),
      // In the middle of a payload.
      (much, true, false, false, true), (much, true, false, true, false), (much - 1, true, false, false, false),
      (1, true, true, false, true), (1, true, false, false, false), (0, true, false, false, false),
    ] {
      var policy = SpinPolicy()
      policy.ended(
        bringing: bytes, awaitsPayload: awaitsPayload, endsMessage: endsMessage, wasInterrupted: wasInterrupted)
      #expect(policy.spins(hasIdleCPU: true) == pays, "\(bytes), \(awaitsPayload), \(endsMessage), \(wasInterrupted)")
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
    ended(bringing: 0, awaitsPayload: false, endsMessage: paid, wasInterrupted: false)
  }
}
