// Memory is bounded before bytes arrive (I10), and nobody waits for ever for it.

import NBDProtocol
import NBDServerCore
import TestBackends
import Testing

private func id(_ number: UInt64) -> ConnectionID { ConnectionID(rawValue: number) }

/// Small numbers: 100 in all, of which 30 are for the oldest incomplete payload; 40 for each connection.
private func smallBudget(smallBytes: Int = 0) -> ByteBudget {
  var limits = Limits()
  limits.totalBytesMax = 100
  limits.connectionBytesMax = 40
  limits.smallChargeBytesMax = smallBytes
  return ByteBudget(limits: limits, payloadBytesMax: 30)
}

@Suite struct ByteBudgetTests {
  @Test func connectionHoldsNoMoreThanItsShare() {
    var budget = smallBudget()
    #expect(budget.charge(30, to: id(1)) == .granted)
    #expect(budget.charge(11, to: id(1)) == .connectionIsFull)
    #expect(budget.charge(10, to: id(1)) == .granted)
    #expect(budget.held(by: id(1)) == 40)
    #expect(!budget.isContended)
  }

  /// The limit on payloads bounds it.
  @Test func oneRequestMayAlwaysBeHeld() {
    var budget = smallBudget()
    #expect(budget.charge(60, to: id(1)) == .granted)
    #expect(budget.charge(1, to: id(1)) == .connectionIsFull)
  }

  @Test func reserveIsKeptBack() {
    var budget = smallBudget()
    #expect(budget.charge(40, to: id(1)) == .granted)
    #expect(budget.charge(31, to: id(2)) == .mustWait)
    #expect(budget.charge(30, to: id(2)) == .granted)
    #expect(budget.charge(1, to: id(3)) == .mustWait)
    #expect(budget.total == 70)
  }

  @Test func oldestIncompletePayloadDrawsOnTheReserve() {
    var budget = smallBudget()
    budget.payloadBegins(id(1))
    budget.payloadBegins(id(2))
    #expect(budget.charge(40, to: id(3)) == .granted)
    #expect(budget.charge(30, to: id(4)) == .granted)
    #expect(budget.charge(1, to: id(2)) == .mustWait)
    #expect(budget.charge(30, to: id(1)) == .granted)
    #expect(budget.total == 100)
    // It is complete: the next in age may draw on what becomes free.
    #expect(budget.payloadEnds(id(1)) == [])
    #expect(budget.release(30, of: id(1)) == [id(2)])
    #expect(budget.charge(30, to: id(2)) == .granted)
  }

  @Test func waitersAreNamedOnceOldestFirst() {
    var budget = smallBudget()
    #expect(budget.charge(40, to: id(1)) == .granted)
    #expect(budget.charge(30, to: id(2)) == .granted)
    for number: UInt64 in [5, 3, 4, 5, 3] { #expect(budget.charge(10, to: id(number)) == .mustWait) }
    #expect(budget.isContended)
    #expect(budget.release(5, of: id(1)) == [])
    #expect(budget.release(5, of: id(1)) == [id(5), id(3), id(4)])
    #expect(!budget.isContended)
    #expect(budget.release(10, of: id(1)) == [])
  }

  @Test func forgottenConnectionIsNotNamed() {
    var budget = smallBudget()
    _ = budget.charge(40, to: id(1))
    _ = budget.charge(30, to: id(2))
    _ = budget.charge(10, to: id(3))
    budget.forget(id(3))
    #expect(!budget.isContended)
    #expect(budget.release(40, of: id(1)) == [])
  }

  /// A small request of somebody who holds nothing is bounded by the number of connections, and never waits.
  @Test func smallRequestNeverWaitsForOthers() {
    var budget = smallBudget(smallBytes: 4)
    #expect(budget.charge(40, to: id(1)) == .granted)
    #expect(budget.charge(30, to: id(2)) == .granted)
    #expect(budget.charge(4, to: id(3)) == .granted)
    #expect(budget.charge(4, to: id(3)) == .mustWait)
    #expect(budget.charge(5, to: id(4)) == .mustWait)
  }

  /// An image that hangs keeps what its requests hold.
  @Test func oneImageHoldsNoMoreThanItsShare() {
    var limits = Limits()
    limits.totalBytesMax = 100
    limits.connectionBytesMax = 40
    limits.imageBytesMax = 50
    limits.smallChargeBytesMax = 0
    var budget = ByteBudget(limits: limits, payloadBytesMax: 30)
    let hung = ImageKey(rawValue: 1)
    for number: UInt64 in 1...3 { budget.attach(id(number), to: hung) }
    budget.attach(id(4), to: ImageKey(rawValue: 2))
    #expect(budget.charge(40, to: id(1)) == .granted)
    #expect(budget.charge(20, to: id(2)) == .mustWait)
    #expect(budget.charge(20, to: id(4)) == .granted)
    #expect(budget.release(40, of: id(1)) == [id(2)])
    #expect(budget.charge(20, to: id(2)) == .granted)
  }

  /// Replies to options may still be unread when the handshake chooses an image.
  @Test func whatWasHeldBeforeTheHandshakeEndedCountsForTheImage() {
    var limits = Limits()
    limits.imageBytesMax = 50
    limits.smallChargeBytesMax = 0
    var budget = ByteBudget(limits: limits, payloadBytesMax: 30)
    let image = ImageKey(rawValue: 1)
    for number: UInt64 in 1...3 {
      budget.chargeExisting(20, to: id(number))
      budget.attach(id(number), to: image)
    }
    #expect(budget.charge(1, to: id(1)) == .mustWait)
    for number: UInt64 in 1...3 { _ = budget.release(20, of: id(number)) }
    #expect(budget.charge(40, to: id(4)) == .granted, "of no image")
    #expect(budget.charge(50, to: id(1)) == .granted)
    #expect(budget.charge(1, to: id(2)) == .mustWait)
  }

  /// Replies that exist already are charged without asking, and take nobody out of the queue.
  @Test func chargeForWhatExistsKeepsThePlaceInTheQueue() {
    var budget = smallBudget()
    _ = budget.charge(40, to: id(1))
    _ = budget.charge(30, to: id(2))
    #expect(budget.charge(10, to: id(3)) == .mustWait)
    budget.chargeExisting(5, to: id(3))
    #expect(budget.isContended)
    #expect(budget.release(30, of: id(2)) == [id(3)])
  }

  /// Whoever holds memory, or the place of the oldest payload, and moves nothing can be found while others wait.
  @Test func silentHolderIsACandidate() {
    var budget = smallBudget()
    budget.payloadBegins(id(1))
    budget.payloadBegins(id(2))
    #expect(budget.charge(5, to: id(1)) == .granted)
    #expect(budget.charge(40, to: id(2)) == .granted)
    #expect(budget.charge(25, to: id(3)) == .granted)
    #expect(budget.charge(10, to: id(4)) == .mustWait)
    #expect(budget.stallCandidates == [id(1), id(2), id(3)])
    #expect(budget.charge(5, to: id(2)) == .connectionIsFull)
    #expect(budget.charge(5, to: id(3)) == .mustWait)
    #expect(budget.stallCandidates == [id(1), id(2)])
  }

  /// The oldest incomplete payload keeps the reserve from everybody else even before its first byte.
  @Test func silentOwnerOfTheReserveIsACandidate() {
    var budget = smallBudget()
    budget.payloadBegins(id(1))
    #expect(budget.charge(40, to: id(2)) == .granted)
    #expect(budget.charge(30, to: id(3)) == .granted)
    #expect(budget.charge(1, to: id(4)) == .mustWait)
    #expect(budget.stallCandidates.contains(id(1)))
  }

  @Test func randomOperationsKeepToTheLimits() {
    let seed = printedSeed()
    var random = SplitMix(seed: seed)
    for run in 0..<100 {
      var budget = smallBudget()
      var naive = NaiveBudget()
      for step in 0..<400 {
        let each = id(UInt64.random(in: 0..<8, using: &random))
        var context: String { "seed \(seed) run \(run) step \(step)" }
        switch Int.random(in: 0..<9, using: &random) {
        case 0...3:
          let bytes = Int.random(in: 1...35, using: &random)
          let expected = naive.charge(bytes, to: each)
          claim(budget.charge(bytes, to: each) == expected, context)
        case 4...5:
          guard let bytes = naive.held[each]?.randomElement(using: &random) else { continue }
          claim(budget.release(bytes, of: each) == naive.release(bytes, of: each), context)
        case 6:
          guard !naive.incomplete.contains(each) else { continue }
          naive.incomplete.append(each)
          budget.payloadBegins(each)
        case 7: claim(budget.payloadEnds(each) == naive.payloadEnds(each), context)
        default:
          naive.waiting.removeAll { $0.id == each }
          budget.forget(each)
        }
        claim(budget.total == naive.total, context)
        claim(budget.total <= 100, context)
        claim(budget.held(by: each) == naive.held[each, default: []].reduce(0, +), context)
        claim(budget.isContended == !naive.waiting.isEmpty, context)
      }
      for (each, charges) in naive.held { for bytes in charges { _ = budget.release(bytes, of: each) } }
      claim(budget.total == 0, "nothing is lost, seed \(seed) run \(run)")
    }
  }

  /// Many half-sent payloads, more than fit. Who has to wait asks again only when named: all of them get through.
  @Test func halfSentPayloadsAllFinish() {
    let seed = printedSeed()
    var random = SplitMix(seed: seed)
    for run in 0..<30 {
      var budget = smallBudget()
      var missing: [ConnectionID: Int] = [:]
      for number: UInt64 in 1...20 {
        missing[id(number)] = 30
        budget.payloadBegins(id(number))
      }
      var runnable = missing.keys.sorted().shuffled(using: &random)
      var executing: [ConnectionID] = []
      var steps = 0
      while !(runnable.isEmpty && executing.isEmpty) {
        steps += 1
        if runnable.isEmpty || !executing.isEmpty && Bool.random(using: &random) {
          let done = executing.remove(at: Int.random(in: 0..<executing.count, using: &random))
          runnable += budget.release(30, of: done)
          continue
        }
        let each = runnable.remove(at: Int.random(in: 0..<runnable.count, using: &random))
        guard budget.charge(5, to: each) == .granted else { continue }
        missing[each, default: 0] -= 5
        guard missing[each] == 0 else {
          runnable.append(each)
          continue
        }
        missing[each] = nil
        runnable += budget.payloadEnds(each)
        executing.append(each)
      }
      claim(missing.isEmpty, "everybody gets through, seed \(seed) run \(run)")
      claim(budget.total == 0)
      claim(steps < 100_000)
    }
  }
}

/// The rules once more, in lists.
private struct NaiveBudget {
  var held: [ConnectionID: [Int]] = [:]
  var incomplete: [ConnectionID] = []
  var waiting: [(id: ConnectionID, bytes: Int)] = []

  var total: Int { held.values.reduce(0) { $0 + $1.reduce(0, +) } }

  mutating func charge(_ bytes: Int, to id: ConnectionID) -> ByteBudget.Charge {
    let own = held[id, default: []].reduce(0, +)
    if own > 0 && own + bytes > 40 { return .connectionIsFull }
    guard fits(bytes, id) else {
      if let index = waiting.firstIndex(where: { $0.id == id }) {
        waiting[index].bytes = bytes
      } else {
        waiting.append((id, bytes))
      }
      return .mustWait
    }
    held[id, default: []].append(bytes)
    waiting.removeAll { $0.id == id }
    return .granted
  }

  mutating func release(_ bytes: Int, of id: ConnectionID) -> [ConnectionID] {
    held[id]!.remove(at: held[id]!.firstIndex(of: bytes)!)
    if held[id]!.isEmpty { held[id] = nil }
    return wake()
  }

  private mutating func wake() -> [ConnectionID] {
    let woken = waiting.filter { fits($0.bytes, $0.id) }.map(\.id)
    waiting.removeAll { woken.contains($0.id) }
    return woken
  }

  private func fits(_ bytes: Int, _ id: ConnectionID) -> Bool {
    let isOldest = incomplete.first == id
    let isAlone = incomplete.isEmpty && total == held[id, default: []].reduce(0, +)
    return total + bytes <= (isOldest || isAlone ? 100 : 70)
  }

  mutating func payloadEnds(_ id: ConnectionID) -> [ConnectionID] {
    incomplete.removeAll { $0 == id }
    return wake()
  }
}
