// The tools people use: nbdinfo, nbdcopy, qemu-img, qemu-io, fio. What they print is compared, not admired.

import DaemonHarness
import Foundation
import NBDClient
import Testing

/// Writes `pieces` of 1 MiB, each different, at every second MiB of `path`: half data, half holes.
private func writeHalfSparse(_ path: String, sizeBytes: UInt64) throws {
  let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw HarnessError("open \(path): \(errnoText())") }
  defer { close(descriptor) }
  ftruncate(descriptor, off_t(sizeBytes))
  var random = Random(seed: 4)
  var piece = random.bytes(1 << 20)
  for offset in stride(from: 0, to: sizeBytes, by: 2 << 20) {
    piece.withUnsafeMutableBytes { $0.storeBytes(of: offset &+ 1, as: UInt64.self) }
    guard pwrite(descriptor, piece, piece.count, off_t(offset)) == piece.count else {
      throw HarnessError("pwrite: \(errnoText())")
    }
  }
  // Delayed allocation would make the comparison of allocated space depend on luck.
  guard fsync(descriptor) == 0 else { throw HarnessError("fsync: \(errnoText())") }
}

/// Where two files differ first; cmp(1) takes four times as long on 4 GiB.
private func firstDifference(_ a: String, _ b: String) throws -> Int? {
  let pieceBytes = 4 << 20
  let descriptors = [open(a, O_RDONLY | O_CLOEXEC), open(b, O_RDONLY | O_CLOEXEC)]
  defer { for descriptor in descriptors { close(descriptor) } }
  let pieces = [UnsafeMutableRawPointer](unsafeUninitializedCapacity: 2) { pointers, count in
    for index in 0..<2 { (pointers.baseAddress! + index).initialize(to: malloc(pieceBytes)) }
    count = 2
  }
  defer { for piece in pieces { free(piece) } }
  var offset = 0
  while true {
    let counts = (0..<2).map { pread(descriptors[$0], pieces[$0], pieceBytes, off_t(offset)) }
    guard counts[0] >= 0, counts[0] == counts[1] else { return offset }
    if counts[0] == 0 { return nil }
    if memcmp(pieces[0], pieces[1], counts[0]) != 0 { return offset }
    offset += counts[0]
  }
}

private func json(_ text: String) throws -> [String: Any] {
  try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
}

extension Integration {
  @Suite struct Tools {
    @Test(needs("nbdinfo")) func nbdinfoShowsTheExport() throws {
      try withDaemon { daemon, _, _ in
        let client = try daemon.client()
        _ = try client.write(1 << 20, filled(1, 1 << 20))
        let info = try json(run("/usr/bin/nbdinfo", ["--json", daemon.uri()], seconds: 20).orThrow().output)
        #expect(info["protocol"] as? String == "newstyle-fixed")
        #expect(info["structured"] as? Bool == true)
        let export = try #require((info["exports"] as? [[String: Any]])?.first)
        #expect(export["export-size"] as? Int == 64 << 20)
        #expect(export["contexts"] as? [String] == ["base:allocation"])
        for key in [
          "can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero",
        ] {
          #expect(export[key] as? Bool == true, "\(key)")
        }
        #expect(export["is_read_only"] as? Bool == false)
        #expect(export["block_size_minimum"] as? Int == 1)
        #expect(export["block_size_preferred"] as? Int == 4096)
        #expect(export["block_size_maximum"] as? Int == 32 << 20)

        let list = try json(run("/usr/bin/nbdinfo", ["--list", "--json", daemon.uri()], seconds: 20).orThrow().output)
        #expect(!((list["exports"] as? [Any]) ?? []).isEmpty)
        let map = try run("/usr/bin/nbdinfo", ["--map", daemon.uri()], seconds: 20).orThrow().output
        let rows = map.split(separator: "\n").map { $0.split(separator: " ").prefix(3).compactMap { Int($0) } }
        #expect(rows == [[0, 1 << 20, 3], [1 << 20, 1 << 20, 0], [2 << 20, 62 << 20, 3]])
      }
    }

    @Test(needs("nbdcopy")) func nbdcopyBothWaysKeepsContentAndHoles() throws {
      try withDaemon(sizeBytes: 4 << 30) { daemon, image, scratch in
        let source = scratch.file("source.img")
        try writeHalfSparse(source, sizeBytes: 4 << 30)
        try run("/usr/bin/nbdcopy", ["--flush", source, daemon.uri()], seconds: 120).orThrow()
        let difference = Int64(try allocatedBytes(image)) - Int64(try allocatedBytes(source))
        #expect(abs(difference) <= 1 << 20, "allocated \(difference) bytes more than the source")
        #expect(try firstDifference(source, image) == nil)

        let back = scratch.file("back.img")
        try run("/usr/bin/nbdcopy", [daemon.uri(), back], seconds: 120).orThrow()
        #expect(try firstDifference(source, back) == nil)
        #expect(try allocatedBytes(back) <= allocatedBytes(source) + (1 << 20))
      }
    }

    @Test(needs("qemu-img")) func qemuImgConvertsComparesAndMaps() throws {
      try withDaemon(sizeBytes: 256 << 20) { daemon, image, scratch in
        let source = scratch.file("source.img")
        try writeHalfSparse(source, sizeBytes: 256 << 20)
        func img(_ arguments: String...) throws -> ToolResult { try run("/usr/bin/qemu-img", arguments, seconds: 60) }
        try img("convert", "-n", "-f", "raw", "-O", "raw", source, daemon.uri()).orThrow()
        try img("compare", "-f", "raw", "-F", "raw", source, daemon.uri()).orThrow()
        try run("/usr/bin/cmp", [source, image], seconds: 60).orThrow()

        let text = try img("map", "-f", "raw", "--output=json", daemon.uri()).orThrow().output
        let map = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]])
        #expect(map.count == 256)
        for (index, extent) in map.enumerated() {
          #expect(extent["start"] as? Int == index << 20)
          #expect(extent["data"] as? Bool == (index % 2 == 0))
        }
        let copy = scratch.file("copy.qcow2")
        try img("convert", "-f", "raw", "-O", "qcow2", daemon.uri(), copy).orThrow()
        try img("check", copy).orThrow()
        try img("compare", "-f", "raw", "-F", "qcow2", daemon.uri(), copy).orThrow()
        // And the comparison does notice a difference.
        #expect(try daemon.client().write(5, [1]).isSuccess)
        #expect(try img("compare", "-f", "raw", "-F", "raw", source, daemon.uri()).status == .exited(1))
      }
    }

    @Test(needs("qemu-io")) func qemuIoPatternsHold() throws {
      try withDaemon(tcp: true) { daemon, _, _ in
        let commands = [
          "write -P 0xab 1M 1M", "read -P 0xab 1M 1M", "read -P 0 0 1M", "write -z -u 1M 64k", "read -P 0 1M 64k",
          "read -P 0xab 1088k 960k", "write -f -P 0x11 3M 4k", "discard 1088k 64k", "read -P 0xab 1152k 896k",
          "aio_write -P 0x22 4M 1M", "aio_write -P 0x33 5M 1M", "aio_flush", "read -P 0x22 4M 1M", "read -P 0x33 5M 1M",
          "writev -P 0x44 6M 4k 8k 12k", "read -P 0x44 6M 24k", "write -z 6M 4k", "read -P 0 6M 4k", "flush",
          "write -P 0x55 67108352 512", "read -P 0x55 67108352 512",
        ]
        let arguments = ["-f", "raw"] + commands.flatMap { ["-c", $0] }
        for uri in [daemon.uri(), "nbd://127.0.0.1:\(try daemon.port())/"] {
          let result = try run("/usr/bin/qemu-io", arguments + [uri], seconds: 60).orThrow()
          #expect(!result.output.contains("Pattern verification failed"))
          #expect(!result.output.contains("failed:"))
        }
      }
    }

    @Test(needs("fio"), arguments: ["randwrite", "write"]) func fioVerifiesWhatItWrote(pattern: String) throws {
      try withDaemon { daemon, _, scratch in
        let result = try run(
          "/usr/bin/fio",
          [
            "--name=verify", "--ioengine=nbd", "--uri=\(daemon.uri())", "--rw=\(pattern)", "--bsrange=4k-128k",
            "--size=48M", "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--verify_dump=0", "--randseed=3",
            "--output-format=normal", "--aux-path=\(scratch.path)",
          ], seconds: 90)
        try result.orThrow()
        #expect(result.output.contains("err= 0"))
      }
    }
  }
}
