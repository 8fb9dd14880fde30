// What a server has allocated: read from the file that CountAllocations, preloaded into it, keeps.

import DaemonHarness
import Glibc

/// The numbers of `struct allocation_counts` in CountAllocations.h.
struct AllocationCounts {
  private static let magic: UInt64 = 0x746e_756f_6363_7268
  private static let numbers = 6

  /// Memory asked for in whatever way: malloc and its relatives, realloc, mmap.
  var allocations: UInt64
  var frees: UInt64

  /// Throws when nobody counts there.
  init(at path: String) throws {
    var numbers = [UInt64](repeating: 0, count: Self.numbers)
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw BenchError("nobody counts allocations: \(errnoText())") }
    defer { close(descriptor) }
    guard read(descriptor, &numbers, 8 * Self.numbers) == 8 * Self.numbers, numbers[0] == Self.magic else {
      throw BenchError("nobody counts allocations in \(path)")
    }
    allocations = numbers[1] + numbers[2] + numbers[4]
    frees = numbers[3]
  }

  /// The next `count` allocations of the process tell their stacks on its standard error.
  static func wantStacks(_ count: UInt64, at path: String) throws {
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw BenchError("open \(path): \(errnoText())") }
    defer { close(descriptor) }
    var count = count
    guard pwrite(descriptor, &count, 8, off_t(8 * (Self.numbers - 1))) == 8 else {
      throw BenchError("pwrite: \(errnoText())")
    }
  }
}

/// A kind of request whose allocations are counted.
struct AllocationCase: Sendable {
  var name: String
  var work: AllocationWork
  /// Requests of this kind must not allocate in the steady state; of others they do, which shows that the counter counts.
  var isFree = true

  static let all =
    [
      AllocationCase(name: "read 4k QD1", work: .load(Workload(depth: 1))),
      AllocationCase(name: "read 4k QD16", work: .load(Workload(depth: 16))),
      AllocationCase(name: "read 4k QD64", work: .load(Workload(depth: 64))),
      AllocationCase(name: "read 4k QD16, one send each", work: .load(Workload(depth: 16, sendsEach: true))),
      AllocationCase(name: "read 4k QD16 structured", work: .load(Workload(depth: 16, structured: true))),
      AllocationCase(name: "read 4k QD16, 4 connections", work: .load(Workload(depth: 16, connections: 4))),
      AllocationCase(name: "write 4k QD1", work: .load(Workload(mix: .randwrite, depth: 1))),
      AllocationCase(name: "write 4k QD16", work: .load(Workload(mix: .randwrite, depth: 16))),
      AllocationCase(
        name: "write 4k QD16, 4 connections", work: .load(Workload(mix: .randwrite, depth: 16, connections: 4))),
      AllocationCase(name: "read/write 70/30 4k QD32", work: .load(Workload(mix: .rw70, depth: 32))),
      AllocationCase(name: "block status of 10 extents", work: .maps, isFree: false),
    ]
}

enum AllocationWork: Sendable {
  case load(Workload)
  case maps
}
