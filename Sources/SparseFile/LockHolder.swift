// Who holds a lock. The kernel names no process for an open file description lock, but /proc shows the locks of each
// descriptor of those processes that we may look at.

import BlockBackend
import Syscalls
import SystemPackage

/// A process with a lock on one of `bytes` of the image, or nil where none can be seen. Reads much of /proc, for at most
/// five seconds (a busy machine; else it takes milliseconds): for error messages only.
func findLockHolder(of identity: ImageIdentity, onBytes bytes: Set<UInt64>) -> LockHolder? {
  let clock = ContinuousClock()
  let deadline = clock.now + .seconds(5)
  let pids = ((try? Files.names(in: "/proc")) ?? []).compactMap { Int($0) }
  for pid in pids where clock.now < deadline {
    for descriptor in (try? Files.names(in: FilePath("/proc/\(pid)/fdinfo"))) ?? [] {
      guard let info = try? Files.text(of: FilePath("/proc/\(pid)/fdinfo/\(descriptor)")),
        info.split(separator: "\n").contains(where: { isLock($0, onBytes: bytes) }),
        let status = try? Files.stat(FilePath("/proc/\(pid)/fd/\(descriptor)")),
        ImageIdentity(status) == identity
      else { continue }
      return LockHolder(pid: pid, name: (try? Files.text(of: FilePath("/proc/\(pid)/comm"))) ?? "?")
    }
  }
  return nil
}

/// `lock:	1: OFDLCK ADVISORY  READ  -1 08:01:262147 201 201`: a lock whose range, its last two words, has one of `bytes`.
private func isLock(_ line: Substring, onBytes bytes: Set<UInt64>) -> Bool {
  guard line.hasPrefix("lock:") else { return false }
  let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
  guard words.count >= 3, let first = UInt64(words[words.count - 2]) else { return false }
  let last = words[words.count - 1] == "EOF" ? UInt64.max : UInt64(words[words.count - 1]) ?? first
  return first <= last && bytes.contains { (first...last).contains($0) }
}
