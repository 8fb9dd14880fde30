// Moves an owned value through a queue of copyable things: a closure cannot consume what it captured, a dictionary cannot
// hold a noncopyable.

import Locking

/// A value that is taken exactly once.
final class Handoff<Value: ~Copyable & Sendable>: Sendable {
  private let value: Locked<Value?>

  init(_ value: consuming sending Value) {
    self.value = Locked(value)
  }

  func take() -> Value {
    guard let value = value.withLock({ exchange(&$0, with: nil) }) else {
      preconditionFailure("a value is handed over once")
    }
    return value
  }
}
