// Whether a small history is possible, by trying every order.

import Oracle

/// Tries all orders in which the requests of `history` can have taken effect on `blockCount` blocks.
struct BruteForce {
  /// Takes effect at one moment: a whole request, or one block of one that is not certain.
  private struct Unit {
    var operation: Operation
    var blocks: Range<Int>
    var isOptional: Bool
  }

  private var units: [Unit] = []
  private let blockCount: Int

  init(_ history: History, blockCount: Int) {
    self.blockCount = blockCount
    for operation in history.operations {
      let isDone = operation.succeeded && operation.completed != nil
      switch operation.kind {
      case .read:
        if isDone { units.append(Unit(operation: operation, blocks: operation.blocks, isOptional: false)) }
      case .write where isDone, .writeZeroes where isDone:
        units.append(Unit(operation: operation, blocks: operation.blocks, isOptional: false))
      case .write, .writeZeroes, .trim:
        for block in operation.blocks {
          units.append(Unit(operation: operation, blocks: block..<(block + 1), isOptional: true))
        }
      }
    }
  }

  var isPossible: Bool {
    search(left: Array(units.indices), content: Array(repeating: .zero, count: blockCount))
  }

  private func search(left: [Int], content: [Run.Content]) -> Bool {
    if left.isEmpty { return true }
    for index in left {
      let unit = units[index]
      let isNext = left.allSatisfy { (units[$0].operation.completed ?? .max) > unit.operation.invoked }
      guard isNext else { continue }
      let rest = left.filter { $0 != index }
      if unit.isOptional, search(left: rest, content: content) { return true }
      var content = content
      switch unit.operation.kind {
      case .read:
        let found = unit.operation.seen.flatMap { run in run.blocks.map { _ in run.content } }
        if Array(content[unit.blocks]) != found { continue }
      case .write:
        for block in unit.blocks { content[block] = .written(by: unit.operation.id) }
      case .trim, .writeZeroes:
        for block in unit.blocks { content[block] = .zero }
      }
      if search(left: rest, content: content) { return true }
    }
    return false
  }
}
