// What a process and its children have used, from /proc.

import DaemonHarness
import Glibc

struct ProcessUse {
  /// utime + stime of the process and of its children, living and waited for, in microseconds. The kernel counts in ticks of
  /// 10 ms.
  var cpuMicroseconds = 0.0
  /// Memory in KiB; what processes share is counted once (Pss). Nil when it was not asked for.
  var memoryKiB: Double?

  init(of pid: pid_t, memory: Bool = false) {
    if memory { memoryKiB = 0 }
    add(pid, memory)
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
    for child in text(of: "/proc/\(pid)/task/\(pid)/children").split(separator: " ") {
      if let child = pid_t(child) { add(child, memory) }
    }
  }
}

/// CPU time of this process, in microseconds.
func ownCPUMicroseconds() -> Double {
  var usage = rusage()
  getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
  let seconds = Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
  return seconds * 1e6 + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
}
