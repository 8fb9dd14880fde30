// A file on FUSE.

import BlockBackend
import Foundation
import SparseFile
import SystemPackage
import TestBackends
import Testing

private let hasFUSE =
  canMount && has("nbdfuse") && has("nbdkit") && FileManager.default.fileExists(atPath: "/dev/fuse")

/// A file system that is a program: calls may hang, and little is supported.
@Suite(.enabled(if: hasFUSE, "needs root, nbdfuse, nbdkit and /dev/fuse")) struct FuseTests {
  /// Runs a program until the end of `body`, then kills it. Not with SIGTERM: a child of a Dispatch thread has it blocked.
  private func withProgram(_ arguments: [String], until file: FilePath, _ body: () throws -> Void) throws {
    let program = Process()
    program.executableURL = URL(fileURLWithPath: try #require(find(arguments[0])))
    program.arguments = Array(arguments.dropFirst())
    try program.run()
    defer {
      kill(program.processIdentifier, SIGKILL)
      program.waitUntilExit()
    }
    for _ in 0..<500 where !FileManager.default.fileExists(atPath: file.string) { usleep(10_000) }
    try body()
  }

  private func withFUSE(_ body: (FilePath) throws -> Void) throws {
    try withDirectory { directory in
      let socket = directory.appending("socket")
      let mountPoint = directory.appending("mnt")
      let path = mountPoint.appending("image")
      try FileManager.default.createDirectory(atPath: mountPoint.string, withIntermediateDirectories: false)
      try withProgram(["nbdkit", "-f", "-U", socket.string, "memory", "5M"], until: socket) {
        try withProgram(["nbdfuse", path.string, "nbd+unix:///?socket=\(socket)"], until: path) {
          defer { _ = try? run("umount", mountPoint.string) }
          try body(path)
        }
      }
    }
  }

  @Test func fileIsServedButIsNotLocal() throws {
    try withFUSE { path in
      let image = try ImageFile.open(path: path)
      #expect(!image.capabilities.contains(.local))
      #expect(image.geometry.sizeBytes == 5 << 20)
      #expect(image.warnings.contains { $0.contains("FUSE") })
      for check in ConformanceCheck.all where check.description != "freshImageReadsZero" {
        try image.zero(0..<5 << 20, [])
        do { try check.run(image, 1) } catch { Issue.record("\(check): \(error)") }
      }
    }
  }
}
