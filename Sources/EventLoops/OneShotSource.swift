// The only place that knows how Dispatch sources are suspended, resumed and cancelled (design, section 6):
//   - a source is born suspended; releasing a suspended one traps, so it is resumed for the last time when it is cancelled;
//   - its descriptor may be closed only when its cancel handler has run.
// Not thread-safe: its owner's lock excludes.

@unsafe @preconcurrency import Dispatch

/// A read or write source that fires once each time it is armed.
struct OneShotSource {
  enum Direction: Sendable { case reading, writing }

  private let source: any DispatchSourceProtocol
  private(set) var isArmed = false

  /// `onEvent` runs on `queue`; it must call `disarm()`. `onCancelled` runs there once after `cancel()`, as the last thing.
  init(
    _ direction: Direction, descriptor: Int32, queue: DispatchQueue, onEvent: @escaping @Sendable () -> Void,
    onCancelled: @escaping @Sendable () -> Void
  ) {
    source =
      switch direction {
      case .reading: DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue)
      case .writing: DispatchSource.makeWriteSource(fileDescriptor: descriptor, queue: queue)
      }
    source.setEventHandler(handler: onEvent)
    source.setCancelHandler(handler: onCancelled)
  }

  mutating func arm() {
    if isArmed { return }
    isArmed = true
    source.resume()
  }

  mutating func disarm() {
    if !isArmed { return }
    isArmed = false
    source.suspend()
  }

  /// Once. The event handler may run one last time.
  mutating func cancel() {
    arm()
    source.cancel()
  }
}
