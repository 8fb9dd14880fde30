// Signals as something that can be read.

import CLinux
import SystemPackage

/// Counts the arrivals of one signal, for the life of the process. Its handler runs on whichever thread the kernel chooses and
/// does nothing but count: no thread has to block the signal, and children get the default action and an empty mask.
///
/// (libdispatch's own signal sources want it blocked in every thread: the thread that gets it instead sends it to itself, where
/// signalfd does not look; and the main thread under `dispatchMain()` blocks none.)
package struct SignalCounter: Sendable {
  /// Readable when the signal has arrived since `take`; not to be closed.
  package let descriptor: Int32

  /// Once per signal number. Throws `.invalidArgument` for a number that cannot be handled.
  package init(_ number: Int32) throws(Errno) { descriptor = try checked(hf_signal_descriptor(number)) }

  /// Arrivals since the last call. Does not wait.
  package func take() -> Int { Int(max(0, hf_signal_take(descriptor))) }
}
