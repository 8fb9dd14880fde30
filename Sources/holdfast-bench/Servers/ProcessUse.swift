// What a process and its children have used, from /proc.

import DaemonHarness
import Glibc
import Syscalls

struct ProcessUse {
  /// utime + stime of the process and of its children, living and waited for, in microseconds. The kernel counts in ticks of
  /// 10 ms.
  var cpuMicroseconds = 0.0
  /// Memory in KiB; what processes share is counted once (Pss). Nil when it was not asked for.
  var memoryKiB: Double?

  init(of pid: pid_t, memory: Bool = false) {
    // A child that is waited for between two looks would be missed: the parent did not have its time yet, and then it is gone.
    for _ in 0..<20 {
      let before = Self.children(of: pid)
      self = Self.read(pid, memory)
      if Self.children(of: pid) == before { return }
      usleep(2000)
    }
  }

  private init() {}

  private static func read(_ pid: pid_t, _ memory: Bool) -> ProcessUse {
    var use = ProcessUse()
    if memory { use.memoryKiB = 0 }
    use.add(pid, memory)
    return use
  }

  private static func children(of pid: pid_t) -> [pid_t] {
    text(of: "/proc/\(pid)/task/\(pid)/children").split(separator: " ").compactMap { pid_t($0) }
  }

  private mutating func add(_ pid: pid_t, _ memory: Bool) {
    // The name stands in parentheses and may hold anything; the state follows it as field 3.
    let stat = text(of: "/proc/\(pid)/stat")
    guard let end = stat.lastIndex(of: ")") else { return }
    let fields = stat[end...].split(separator: " ").dropFirst()
    let ticks = fields.dropFirst(11).prefix(4).compactMap { Double($0) }.reduce(0, +)
    cpuMicroseconds += ticks * 1e6 / Double(sysconf(Int32(_SC_CLK_TCK)))
    if memory {
      let line = text(of: "/proc/\(pid)/smaps_rollup").split(separator: "\n").first { $0.hasPrefix("Pss:") }
      let kibibytes = line?.split(separator: " ").dropFirst().first.flatMap { Double($0) }
      memoryKiB = (memoryKiB ?? 0) + (kibibytes ?? 0)
    }
    for child in Self.children(of: pid) { add(child, memory) }
  }
}

/// CPU time of this process, or of its children that it has waited for, in microseconds.
func ownCPUMicroseconds(children: Bool = false) -> Double {
  var usage = rusage()
  getrusage(__rusage_who_t(children ? RUSAGE_CHILDREN.rawValue : RUSAGE_SELF.rawValue), &usage)
  let seconds = Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
  return seconds * 1e6 + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
}

/// How much of the processors went to nobody who takes part in a measurement: other processes, the kernel's own threads, the
/// host's other guests.
struct Disturbance {
  private let start = MonotonicClock.nanoseconds
  private let busyMicroseconds = Self.busy()
  private let ownMicroseconds: Double

  init(beside server: pid_t) { ownMicroseconds = Self.own(server) }

  func percent(beside server: pid_t) -> Double {
    let all = Double(MonotonicClock.nanoseconds - start) / 1000 * Double(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    let others = (Self.busy() - busyMicroseconds) - (Self.own(server) - ownMicroseconds)
    return max(0, others / all * 100)
  }

  private static func own(_ server: pid_t) -> Double {
    ProcessUse(of: server).cpuMicroseconds + ownCPUMicroseconds() + ownCPUMicroseconds(children: true)
  }

  /// user, nice, system, irq, softirq and steal of all processors, without idle and iowait.
  private static func busy() -> Double {
    let fields = text(of: "/proc/stat").prefix { $0 != "\n" }.split(separator: " ").dropFirst().compactMap {
      Double($0)
    }
    guard fields.count >= 8 else { return 0 }
    let ticks = fields[0...2].reduce(0, +) + fields[5...7].reduce(0, +)
    return ticks * 1e6 / Double(sysconf(Int32(_SC_CLK_TCK)))
  }
}
