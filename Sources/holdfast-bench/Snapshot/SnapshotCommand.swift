// `holdfast-bench snapshot`: for how long writers wait while an image of many extents is copied.

import ArgumentParser
import DaemonHarness
import Glibc
import Locking
import Syscalls

struct SnapshotCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot", abstract: "Measure how long writers wait for a snapshot.",
    discussion: """
      On XFS and btrfs on loop devices, as root. The image has an extent of 64 KiB every so often; four connections write to \
      some of them at depth 8 while it is copied.
      """)

  @Option(help: "Snapshots.") var rounds = 5
  @Option(help: "GiB of the image.") var size = 10
  @Option(help: "Extents that it begins with.") var extents = 9000
  @Option(help: "File systems, separated by commas.") var kinds = "xfs,btrfs"

  func validate() throws {
    guard (1...100).contains(rounds), (1...1024).contains(size), (16...100_000).contains(extents) else {
      throw ValidationError("--rounds is 1 to 100, --size 1 to 1024, --extents 16 to 100000.")
    }
  }

  func run() throws {
    signal(SIGPIPE, SIG_IGN)
    for kind in kinds.split(separator: ",") { try measure(String(kind)) }
  }

  private func measure(_ kind: String) throws {
    var table = Table([
      "\(kind), \(size) GiB", "extents", "stall ms", "of it lock ms", "all of it ms", "longest write ms", "without ms",
    ])
    var stalls: [Double] = []
    for round in 1...rounds {
      let sample = try SnapshotSample.measure(
        kind: kind, sizeBytes: UInt64(size) << 30, extents: extents, seed: UInt64(round))
      stalls.append(sample.stall)
      table.rows.append(["\(round)", "\(sample.extents)"] + sample.figures.map { fixed($0, 1) })
    }
    print(table.text)
    if let median = Summary(stalls)?.median {
      print("\(kind): writers wait \(fixed(median, 1)) ms, the median of \(rounds)\n")
    }
  }
}

/// One snapshot. All times are milliseconds.
struct SnapshotSample {
  /// Of the image when it was copied.
  var extents: Int
  /// As the daemon tells it.
  var stall: Double
  var lockWait: Double
  var total: Double
  /// As the clients saw it, in the time with the snapshot and in as much time before it.
  var longestWrite: Double
  var longestWithout: Double

  var figures: [Double] { [stall, lockWait, total, longestWrite, longestWithout] }

  private static let loadSeconds = 2.0
  private static let extentBytes: UInt64 = 64 << 10

  static func measure(kind: String, sizeBytes: UInt64, extents: Int, seed: UInt64) throws -> SnapshotSample {
    try withScratch { scratch in
      let directory = try scratch.mountFileSystem(["mkfs.\(kind)", "-q"], sizeBytes: sizeBytes + 4 << 30)
      let image = directory + "/disk.img"
      let stride = sizeBytes / UInt64(extents) / extentBytes * extentBytes
      try make(image, sizeBytes: sizeBytes, extents: extents, stride: stride)
      let admin = scratch.file("admin.sock")
      let daemon = try Daemon.start(in: scratch, ["--admin", admin, "--export", "disk=\(image)"])
      // A few of the extents, which the copy shares: each first write splits one.
      let writes = Workload(
        mix: .randwrite, spanBytes: stride * UInt64(min(256, extents)), strideBytes: stride, depth: 8, connections: 4,
        seconds: loadSeconds, seed: seed)
      let target = Target(address: .unix(path: daemon.socket), export: "disk")
      let without = try runLoad(writes, on: target)
      let answer = Locked<Result<String, any Error>?>(nil)
      let end = Outcomes<Void>()
      let with = try runLoad(writes, on: target) {
        try PosixThread.spawn(name: "snapshot") {
          usleep(useconds_t(loadSeconds / 2 * 1e6))
          let result = Result {
            try DaemonHarness.run(
              Daemon.binary, ["snapshot", "--json", "--admin", admin, "disk", directory + "/copy.img"], seconds: 60
            ).orThrow().output
          }
          answer.withLock { $0 = result }
          end.end(.success(()))
        }
      }
      _ = try end.wait(count: 1)
      guard let said = try answer.withLock({ $0 })?.get() else { throw BenchError("the snapshot said nothing") }
      guard with.errors + without.errors == 0 else { throw BenchError("writes failed") }
      // The summary of filefrag counts gaps on the disk, not extents.
      let map = try shell("filefrag -v \(image) | grep -cE '^ *[0-9]+:'", seconds: 60).orThrow().line
      try daemon.stop()
      return SnapshotSample(
        extents: Int(map) ?? 0,
        stall: try figure("stall_milliseconds", in: said), lockWait: try figure("lock_wait_milliseconds", in: said),
        total: try figure("milliseconds", in: said),
        longestWrite: Double(with.latency.mostNanoseconds) / 1e6,
        longestWithout: Double(without.latency.mostNanoseconds) / 1e6)
    }
  }

  private static func make(_ path: String, sizeBytes: UInt64, extents: Int, stride: UInt64) throws {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw BenchError("open \(path): \(errnoText())") }
    defer { close(descriptor) }
    let bytes = [UInt8](repeating: 0x5a, count: Int(extentBytes))
    guard ftruncate(descriptor, off_t(sizeBytes)) == 0 else { throw BenchError("ftruncate: \(errnoText())") }
    for index in 0..<extents {
      guard pwrite(descriptor, bytes, bytes.count, off_t(UInt64(index) * stride)) == bytes.count else {
        throw BenchError("cannot write the image: \(errnoText())")
      }
    }
    guard fsync(descriptor) == 0 else { throw BenchError("fsync: \(errnoText())") }
  }

  /// The number behind `"name": `.
  private static func figure(_ name: String, in json: String) throws -> Double {
    let parts = json.split(separator: "\"\(name)\": ")
    guard parts.count == 2, let value = Double(parts[1].prefix { $0.isNumber || $0 == "." || $0 == "e" || $0 == "-" })
    else {
      throw BenchError("no \(name) in \(json)")
    }
    return value
  }
}
