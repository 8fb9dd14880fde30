// What every command that measures needs: a directory of its own for images and sockets, and the servers that are wanted.

import ArgumentParser
import DaemonHarness
import Glibc
import Syscalls
import SystemPackage

/// A fresh directory; whoever makes it removes it.
struct Workplace {
  let path: String

  /// In `parent`, or TMPDIR, or /tmp. Also prepares this process: no SIGPIPE, descriptors enough, an orderly end on Ctrl-C.
  init(in parent: String?) throws {
    signal(SIGPIPE, SIG_IGN)
    try DescriptorLimit.raise(to: 8192)
    let parent = parent ?? getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    do throws(Errno) { path = try Files.makeTemporaryDirectory(prefix: "\(parent)/holdfast-bench-") } catch {
      throw BenchError("cannot make a directory in \(parent): \(error)")
    }
    Interruption.listen()
  }

  /// Gigabytes that a busy disk has to forget: minutes at worst.
  func remove() { _ = try? DaemonHarness.run("/bin/rm", ["-rf", "--one-file-system", path], seconds: 600) }
}

extension ServerKind {
  /// The servers of a list with commas, or of `fallback` those that are installed.
  static func choose(_ list: String, or fallback: [ServerKind] = allCases) throws -> [ServerKind] {
    let names = list.split(separator: ",")
    for name in names where ServerKind(rawValue: String(name)) == nil {
      throw ValidationError("No server is called \(name): \(allCases.map(\.rawValue).joined(separator: ", ")).")
    }
    return try (names.isEmpty ? fallback : names.compactMap { ServerKind(rawValue: String($0)) }).filter { kind in
      guard let tool = kind.tool, find(tool) == nil else { return true }
      if !names.isEmpty { throw BenchError("\(tool) is not installed") }
      progress("\(kind.rawValue): \(tool) is not installed")
      return false
    }
  }
}

func makeFolder(_ path: String) throws { try DaemonHarness.run("/bin/mkdir", ["-p", path], seconds: 10).orThrow() }
