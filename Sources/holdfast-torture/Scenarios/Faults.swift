// Tells the preloaded library (Sources/TortureFaults) in the server what has to go wrong next.

import Glibc
import Syscalls

struct Faults: Sendable {
  enum Fault: String, Sendable {
    case holdWrite = "hold-write"
    case shortWrite = "short-write"
    case failSync = "fail-sync"

    fileprivate var done: String {
      switch self {
      case .holdWrite: "held"
      case .shortWrite: "shortened"
      case .failSync: "failed"
      }
    }
  }

  let folder: String

  /// Makes a folder; `remove` takes it away again.
  init() throws {
    do { folder = try Files.makeTemporaryDirectory(prefix: "/tmp/holdfast-torture-") } catch {
      throw TortureFailure("cannot make a directory in /tmp: \(error)")
    }
  }

  /// NAME=VALUE for the server. The library is looked for beside this executable.
  func environment() throws -> [String] {
    var path = [UInt8](repeating: 0, count: 4096)
    let count = path.withUnsafeMutableBytes {
      readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    let own = String(decoding: path.prefix(max(0, count)), as: UTF8.self)
    let library =
      own.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
      + "/libTortureFaults.so"
    guard access(library, R_OK) == 0 else {
      throw TortureFailure("\(library) is not there; build it: swift build --product TortureFaults")
    }
    return ["LD_PRELOAD=\(library)", "HOLDFAST_TORTURE_FAULTS=\(folder)"]
  }

  func order(_ fault: Fault) throws {
    for name in [fault.rawValue, fault.done, "release"] { unlink("\(folder)/\(name)") }
    try make(fault.rawValue)
  }

  func release() throws { try make("release") }

  func hasHappened(_ fault: Fault) -> Bool { access("\(folder)/\(fault.done)", F_OK) == 0 }

  /// - Throws: when it does not happen within 5 s; the library may not be in the server's way to the file.
  func wait(for fault: Fault) throws {
    for _ in 0..<5000 {
      if hasHappened(fault) { return }
      usleep(1000)
    }
    throw TortureFailure("\(fault.rawValue): the server made no such call; is it started by --server-command itself?")
  }

  func remove() {
    for name in ["hold-write", "held", "short-write", "shortened", "fail-sync", "failed", "release"] {
      unlink("\(folder)/\(name)")
    }
    rmdir(folder)
  }

  private func make(_ name: String) throws {
    let descriptor = open("\(folder)/\(name)", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw TortureFailure("cannot make \(folder)/\(name)") }
    close(descriptor)
  }
}
