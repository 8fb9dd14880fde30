// Cached 4 KiB reads and writes in the steady state allocate nothing: counted in the server, by what is preloaded into it.

import DaemonHarness
import Foundation
import Glibc
import Testing

@testable import holdfast_bench

@Suite(.serialized) struct AllocationTests {
  /// Beside the program that runs the tests, wherever that was built.
  private static let library: String = {
    let bundle = text(of: "/proc/self/maps").split(separator: "\n").lazy
      .compactMap { $0.split(separator: " ").last }.first { $0.hasSuffix("holdfastPackageTests.xctest") }
    let folder = (bundle ?? "").split(separator: "/", omittingEmptySubsequences: false).dropLast()
    return folder.joined(separator: "/") + "/libCountAllocations.so"
  }()

  /// The release build where there is one, as after `make release`: in a debug build an error that is thrown costs an allocation,
  /// and looking in vain for bytes throws one.
  private static let holdfast: String = {
    let release = Daemon.binary.replacingOccurrences(of: "/debug/", with: "/release/")
    return FileManager.default.isExecutableFile(atPath: release) ? release : Daemon.binary
  }()

  private func count(_ item: AllocationCase, requests: Int) throws -> AllocationResult {
    signal(SIGPIPE, SIG_IGN)
    return try withScratch { scratch in
      try countAllocations(
        item, requests: requests, holdfast: Self.holdfast, library: Self.library, directory: scratch.path)
    }
  }

  /// Of 20,000 requests, usually none to two. A lease that is given back and taken again allocates a little, which happens when the
  /// client does not run for 20 ms; and a write that meets another one on its block leaves for the slow lane.
  private static let mostAllocations = 200

  @Test(arguments: AllocationCase.all.filter(\.isFree).map(\.name))
  func steadyStateAllocatesNothing(name: String) throws {
    let item = try #require(AllocationCase.all.first { $0.name == name })
    let result = try count(item, requests: 4000)
    #expect(result.many.requests == 20_000)
    #expect(result.many.allocations <= Self.mostAllocations, "\(name): \(result.many.allocations) allocations")
  }

  @Test func allocationsOfOtherRequestsAreCounted() throws {
    let item = try #require(AllocationCase.all.first { !$0.isFree })
    let result = try count(item, requests: 100)
    #expect(result.many.allocations >= result.many.requests, "the counter does not count")
  }
}
