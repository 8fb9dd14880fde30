// What the clients of one export may hold together, and that they never wait for each other for ever.

import NBDProtocol
import NBDServerCore
import Testing

private func id(_ number: UInt64) -> ConnectionID { ConnectionID(rawValue: number) }

private let export = ExportID(rawValue: 7)
private let image = ImageKey(rawValue: 1)

/// Of `totalBytes`; the largest payload has 30 bytes, a connection may hold 100.
private func makeBudget(totalBytes: Int, imageBytes: Int? = nil, smallBytes: Int, exportBytes: Int?) -> ByteBudget {
  var limits = Limits()
  limits.totalBytesMax = totalBytes
  limits.imageBytesMax = imageBytes ?? limits.imageBytesMax
  limits.connectionBytesMax = 100
  limits.smallChargeBytesMax = smallBytes
  var budget = ByteBudget(limits: limits, payloadBytesMax: 30)
  if let exportBytes { _ = budget.limit(export, to: exportBytes) }
  return budget
}

@Suite struct ExportBudgetTests {
  /// The clients of an export with a limit hold no more than it says, but the oldest payload always ends.
  @Test func anExportHoldsNoMoreThanItsLimit() {
    var budget = makeBudget(totalBytes: 200, smallBytes: 0, exportBytes: 50)
    for number: UInt64 in 1...3 { budget.attach(id(number), to: image, of: export) }
    budget.attach(id(4), to: image, of: ExportID(rawValue: 8))
    #expect(budget.charge(40, to: id(1)) == .granted)
    #expect(budget.charge(15, to: id(2)) == .granted, "one may exceed it")
    #expect(budget.charge(10, to: id(2)) == .mustWait)
    #expect(budget.charge(60, to: id(4)) == .granted, "of an export without a limit")
    budget.payloadBegins(id(3))
    budget.payloadBegins(id(1))
    #expect(budget.charge(20, to: id(3)) == .granted, "the oldest payload")
    #expect(budget.charge(10, to: id(3)) == .mustWait, "but no more than one maximum payload beyond the limit")
    #expect(budget.charge(1, to: id(1)) == .mustWait, "a younger one")
    #expect(budget.payloadEnds(id(3)) == [id(1)], "now it is the oldest")
    _ = budget.payloadEnds(id(1))
    #expect(Set(budget.limit(export, to: nil)) == [id(2), id(3)])
    #expect(budget.charge(10, to: id(2)) == .granted)
    for (number, bytes) in [(1, 40), (2, 25), (3, 20), (4, 60)] as [(UInt64, Int)] {
      _ = budget.release(bytes, of: id(number))
    }
    #expect(budget.total == 0)
  }

  /// First pieces never wait, so many connections hold more than their export may: their payloads end all the same, one by one.
  @Test func firstPiecesDoNotStopAnExport() {
    var budget = makeBudget(totalBytes: 1000, smallBytes: 4, exportBytes: 5)
    let connections = (1...20).map { id($0) }
    for each in connections {
      budget.attach(each, to: image, of: export)
      budget.payloadBegins(each)
      #expect(budget.charge(4, to: each) == .granted)
    }
    for each in connections.reversed().dropLast() { #expect(budget.charge(26, to: each) == .mustWait) }
    var next: [ConnectionID] = [id(1)]
    for each in connections {
      #expect(next == [each])
      #expect(budget.charge(26, to: each) == .granted)
      next = budget.payloadEnds(each)
      next += budget.release(30, of: each)
    }
    #expect(budget.total == 0)
  }

  /// Bytes that were received beside a payload that waits are kept until its turn: of the one whose turn it is, and of the others.
  @Test func whatWasReceivedDoesNotStopAnExport() {
    var budget = makeBudget(totalBytes: 1000, smallBytes: 4, exportBytes: 5)
    let connections = (1...20).map { id($0) }
    for each in connections {
      budget.attach(each, to: image, of: export)
      budget.payloadBegins(each)
      #expect(budget.charge(4, to: each) == .granted)
      if each != id(1) { #expect(budget.charge(26, to: each) == .mustWait) }
      budget.park(3, of: each)
    }
    for each in connections {
      // Its own bytes are still there when it is woken, and gone when it goes on.
      #expect(budget.charge(26, to: each) == .granted)
      _ = budget.unpark(each)
      _ = budget.payloadEnds(each)
      let woken = budget.release(30, of: each)
      #expect(each == id(20) || woken.contains(id(each.rawValue + 1)))
    }
    #expect(budget.total == 0)
  }

  /// Connections that wait with what they have received hold nothing that another waits for, however much it is: neither of an export,
  /// nor of an image, nor of all memory.
  @Test func whatIsParkedStopsNobody() {
    for limited in [true, false] {
      var budget = makeBudget(totalBytes: 100, imageBytes: 80, smallBytes: 4, exportBytes: limited ? 50 : nil)
      let first = id(100)
      let connections = (1...20).map { id($0) }
      for each in connections + [first] { budget.attach(each, to: image, of: export) }
      #expect(budget.charge(50, to: first) == .granted)
      for each in connections {
        budget.park(10, of: each)
        #expect(budget.charge(25, to: each) == .mustWait)
      }
      var woken = Set(budget.release(50, of: first))
      var served: Set<ConnectionID> = []
      while !woken.isEmpty {
        let holders = woken.sorted().filter { budget.charge(25, to: $0) == .granted }
        #expect(!holders.isEmpty)
        woken = []
        for each in holders { woken.formUnion(budget.unpark(each)) }
        for each in holders { woken.formUnion(budget.release(25, of: each)) }
        served.formUnion(holders)
        woken.subtract(served)
      }
      #expect(served == Set(connections))
      #expect(budget.total == 0)
    }
  }
}
