// What a service manager, systemd or another, tells a process that it starts, and what the process tells it (sd_notify(3),
// sd_listen_fds(3)). Nothing of it is there when the process is started by hand.

import CLinux
import Glibc
import SystemPackage

/// Whoever started this process and wants to hear how it is. Safe from any thread.
package struct ServiceManager: Sendable {
  private let address: String

  /// How often it wants to hear `WATCHDOG=1`, at the latest, microseconds; nil: never.
  package let watchdogMicroseconds: UInt64?

  /// - Parameters:
  ///   - address: NOTIFY_SOCKET: a path, or `@` and an abstract name.
  ///   - watchdogMicroseconds: WATCHDOG_USEC, when WATCHDOG_PID is absent or this process.
  package init(address: String, watchdogMicroseconds: UInt64? = nil) {
    self.address = address
    self.watchdogMicroseconds = watchdogMicroseconds
  }

  /// Of this process; nil when it was not started by one that wants to hear. The variables are taken out of the environment,
  /// so that no child believes that they are meant for it.
  package static func takeFromEnvironment() -> ServiceManager? {
    let address = takeVariable("NOTIFY_SOCKET")
    let interval = takeVariable("WATCHDOG_USEC").flatMap { UInt64($0) }
    let isMine = takeVariable("WATCHDOG_PID").map { $0 == "\(getpid())" } ?? true
    guard let address, !address.isEmpty else { return nil }
    return ServiceManager(address: address, watchdogMicroseconds: isMine && interval != 0 ? interval : nil)
  }

  /// Sends assignments such as `READY=1`, one to a line, as one message. Never waits: EAGAIN when its queue is full.
  package func tell(_ assignments: [String]) throws(Errno) {
    let text = assignments.joined(separator: "\n")
    var copy = text
    let result = copy.withUTF8 { bytes in
      unsafe hf_send_datagram(address, UnsafeRawPointer(bytes.baseAddress), bytes.count)
    }
    _ = try checked(result)
  }
}

/// A socket that was opened before this process began.
package struct InheritedSocket: Sendable, Equatable {
  package let descriptor: Int32
  /// FileDescriptorName= of its unit; nil when there are no names.
  package let name: String?

  package init(descriptor: Int32, name: String?) {
    self.descriptor = descriptor
    self.name = name
  }

  /// The first one; the others follow (SD_LISTEN_FDS_START).
  package static let firstDescriptor: Int32 = 3

  /// Those that are meant for this process, in order. The variables are taken out of the environment.
  /// - Throws: `invalidArgument` when their number is none.
  package static func takeFromEnvironment() throws(Errno) -> [InheritedSocket] {
    let process = takeVariable("LISTEN_PID")
    let count = takeVariable("LISTEN_FDS")
    let names = takeVariable("LISTEN_FDNAMES")
    guard let process, let count, process == "\(getpid())" else { return [] }
    return try parse(count: count, names: names)
  }

  /// - Parameters:
  ///   - count: LISTEN_FDS.
  ///   - names: LISTEN_FDNAMES, separated by colons.
  package static func parse(count: String, names: String?) throws(Errno) -> [InheritedSocket] {
    // No more than anybody could mean.
    guard let count = Int32(count), (0...1024).contains(count) else { throw .invalidArgument }
    let names = names?.split(separator: ":", omittingEmptySubsequences: false).map { String($0) } ?? []
    return (0..<count).map { index in
      InheritedSocket(
        descriptor: firstDescriptor + index, name: names.indices.contains(Int(index)) ? names[Int(index)] : nil)
    }
  }
}

private func takeVariable(_ name: String) -> String? {
  defer { unsafe unsetenv(name) }
  return environmentVariable(name)
}
