// A directory of one test, and the promise that nothing outlives it: what a test sets up (processes, mounts, loop devices) is
// undone in the opposite order, whatever happened in between.

import Glibc

/// Something the harness itself could not do.
package struct HarnessError: Error, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}

/// Used by one thread.
package final class Scratch {
  package let path: String
  private var undo: [() -> Void] = []

  fileprivate init() throws {
    var template = Array("/tmp/holdfast-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw HarnessError("mkdtemp: \(errnoText())") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// `body` runs when the test ends, before everything registered earlier.
  package func atEnd(_ body: @escaping () -> Void) { undo.append(body) }

  fileprivate func clean() {
    while let last = undo.popLast() { last() }
    _ = try? run("/bin/rm", ["-rf", "--one-file-system", path], seconds: 30)
  }

  package func file(_ name: String) -> String { path + "/" + name }

  /// A sparse file of `sizeBytes`.
  @discardableResult
  package func makeImage(_ name: String = "disk.img", sizeBytes: UInt64) throws -> String {
    let image = file(name)
    let descriptor = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw HarnessError("open \(image): \(errnoText())") }
    defer { close(descriptor) }
    guard ftruncate(descriptor, off_t(sizeBytes)) == 0 else { throw HarnessError("ftruncate: \(errnoText())") }
    return image
  }

  /// A file system of its own, made with `mkfs` on a loop device over a sparse file, mounted in a fresh directory.
  package func mountFileSystem(_ mkfs: [String], sizeBytes: UInt64, options: String = "defaults") throws -> String {
    let backing = try makeImage("fs-\(undo.count).img", sizeBytes: sizeBytes)
    try run(mkfs[0], Array(mkfs.dropFirst()) + [backing], seconds: 60).orThrow()
    return try mount(loop: backing, options: options)
  }

  /// Mounts the file system in `backing` through a loop device.
  package func mount(loop backing: String, options: String = "defaults") throws -> String {
    let device = try attachLoop(backing)
    let directory = file("mnt-\(undo.count)")
    mkdir(directory, 0o755)
    try run("/bin/mount", ["-o", options, device, directory], seconds: 60).orThrow()
    atEnd { _ = try? unmount(directory) }
    return directory
  }

  /// Attaches a loop device to `backing` until the test ends.
  package func attachLoop(_ backing: String, options: [String] = []) throws -> String {
    let device = try run("/sbin/losetup", ["-f", "--show"] + options + [backing], seconds: 20).orThrow().line
    atEnd { _ = try? run("/sbin/losetup", ["-d", device], seconds: 20) }
    return device
  }

  /// Mounts a tmpfs of `sizeBytes`.
  package func mountTmpfs(sizeBytes: UInt64) throws -> String {
    let directory = file("tmpfs-\(undo.count)")
    mkdir(directory, 0o755)
    try run("/bin/mount", ["-t", "tmpfs", "-o", "size=\(sizeBytes)", "tmpfs", directory], seconds: 20).orThrow()
    atEnd { _ = try? unmount(directory) }
    return directory
  }
}

/// Unmounts, at the latest lazily.
package func unmount(_ directory: String) throws {
  for _ in 0..<20 {
    let result = try run("/bin/umount", [directory], seconds: 60)
    if result.status == .exited(0) || result.output.contains("not mounted") { return }
    usleep(100_000)
  }
  try run("/bin/umount", ["-l", directory], seconds: 20)
}

/// Runs `body` with a fresh directory and undoes everything afterwards.
package func withScratch<T>(_ body: (Scratch) throws -> T) throws -> T {
  let scratch = try Scratch()
  defer { scratch.clean() }
  return try body(scratch)
}

package func errnoText(_ code: Int32 = errno) -> String { String(cString: strerror(code)) }

/// Seconds on a clock that only goes forward.
package func monotonicSeconds() -> Double {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}

/// Blocks of 512 bytes that `path` occupies, in bytes.
package func allocatedBytes(_ path: String) throws -> UInt64 {
  var facts = stat()
  guard stat(path, &facts) == 0 else { throw HarnessError("stat \(path): \(errnoText())") }
  return UInt64(facts.st_blocks) * 512
}

package func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

/// Waits until `condition` holds, at most `seconds`; false when it never did.
package func eventually(seconds: Double, _ condition: () throws -> Bool) rethrows -> Bool {
  let deadline = monotonicSeconds() + seconds
  while true {
    if try condition() { return true }
    if monotonicSeconds() >= deadline { return false }
    usleep(5000)
  }
}

/// The text of a small file, empty when it cannot be read.
package func text(of path: String) -> String {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return "" }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var piece = [UInt8](repeating: 0, count: 64 << 10)
  while true {
    let count = read(descriptor, &piece, piece.count)
    if count <= 0 { break }
    bytes += piece[0..<count]
  }
  return String(decoding: bytes, as: UTF8.self)
}
