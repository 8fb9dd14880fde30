// Target "server": the whole server but its threads and sockets. The input chooses what happens next: a client sends, bytes
// arrive in any pieces, a call on the disk moves on by a block, fails or not, a sync ends, a client reads, stalls, leaves or
// dies. Everything a client sees is recorded and judged by the oracle.

import BlockBackend
import NBDProtocol
import NBDServerCore
import Oracle

@Sendable package func fuzzServer(_ input: [UInt8]) throws { try fuzzServer(input, guards: .allStand) }

/// - Parameter guards: for a test that takes one out.
package func fuzzServer(_ input: [UInt8], guards: GuardSwitches) throws {
  var tape = Tape(input)
  let world = FuzzWorld(limits: tape.byte(), guards: guards)
  for _ in 0..<2 { try world.connect(isStructured: tape.flag(), isReady: true) }
  var steps = 0
  while !tape.isAtEnd, steps < 4000 {
    steps += 1
    try world.step(&tape)
    // Looks at every lock; the table is used several times in each step.
    if steps % 4 == 0 { world.core.checkInvariants() }
  }
  try world.settle()
  try world.judge()
}

extension FuzzWorld {
  fileprivate func step(_ tape: inout Tape) throws {
    let choice = tape.byte()
    switch choice >> 4 {
    case 0...3: try sendRequest(on: line(tape.byte()), choice, &tape)
    case 4, 5: try deliver(line(tape.byte()), bytes: 1 + Int(tape.byte()) * (choice & 1 == 0 ? 1 : 64))
    case 6...9: try workOn(tape.byte(), blocks: 1 + Int(choice & 15), failing: nil)
    case 10: try workOn(tape.byte(), blocks: 1, failing: choice & 1 == 0 ? .ioError : .noSpace)
    case 11: try sync(fails: choice & 15 == 15)
    case 12, 13: try giveRoom(to: line(tape.byte()), bytes: Int(tape.byte()) << (choice & 7))
    case 14:
      switch choice & 7 {
      case 0: try connect(isStructured: tape.flag(), isReady: false)
      case 1: isShuttingDown = tape.byte() == 0xff
      case 2: try line(tape.byte()).inlet.park()
      default: try connect(isStructured: tape.flag(), isReady: true)
      }
    default:
      let line = line(tape.byte())
      switch choice & 7 {
      case 0, 1: try die(line)
      case 2:
        if !line.hasSaidGoodbye { line.wire += Say.request(2, flags: 0, cookie: 0, offset: 0, length: 0) }
        line.hasSaidGoodbye = true
      case 3: line.sendGarbage(tape.take(Int(tape.byte() % 64)))
      case 4: try endOfStream(line)
      default: try deliver(line, bytes: .max)
      }
    }
  }

  private func line(_ choice: UInt8) -> FuzzLine { lines[Int(choice) % lines.count] }

  private func sendRequest(on line: FuzzLine, _ choice: UInt8, _ tape: inout Tape) throws {
    guard line.reader != nil, !line.hasSaidGoodbye else { return }
    let types: [UInt16] = [0, 1, 4, 6, 3, 7, 5, 1, 0, 6, 1, 0, 3, 4, 99, 0]
    let type = types[Int(choice & 15)]
    let place = tape.byte()
    let first = Int(place & 15)
    let flags = tape.byte()
    // Some reach beyond the end.
    let end = first + 1 + Int(place >> 4)
    let blocks = first..<(flags & 0x40 != 0 ? end : min(FuzzWorld.blocks, end))
    // FUA often, the flags of single commands sometimes, wrong ones now and then.
    line.send(self, type, blocks: blocks, flags: flags & 0x80 != 0 ? UInt16(flags & 0x1f) : UInt16(flags & 1))
  }
}
